// The CPU's encoder on the cases that it shares with other devices.
#include "test/native/kernels/encode_cases.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "native/core/error.h"
#include "native/core/isa.h"
#include "native/core/thread_pool.h"
#include "native/kernels/encode/screen.h"
#include "test/native/check.h"

using namespace personascope;

namespace {

// The case's tokens again and again, until there are at least so many.
encode_cases::Case repeated(const encode_cases::Case& c, std::size_t least) {
  encode_cases::Case many = c;
  for (; many.tokens < least; many.tokens += c.tokens) many.x.insert(many.x.end(), c.x.begin(), c.x.end());
  return many;
}

EncoderWeights encoder_of(const encode_cases::Case& c) {
  EncoderWeights encoder(c.view(), c.bias.data(), c.centre.empty() ? nullptr : c.centre.data(),
                         c.selection());
  encoder.refresh();
  return encoder;
}

EncodeArgs args_of(const encode_cases::Case& c, const EncoderWeights& encoder,
                   std::vector<std::vector<Code>>& codes) {
  codes.resize(c.tokens);
  EncodeArgs args;
  args.encoder = &encoder;
  args.x = c.x.data();
  args.tokens = c.tokens;
  args.x_stride = c.stride;
  args.k = c.k;
  args.codes = codes.data();
  return args;
}

}  // namespace

TEST(cases_shared_with_other_devices) {
  const auto cases = encode_cases::all();
  CHECK(cases.size() > 20);
  for (const encode_cases::Case& c : cases) {
    const EncoderWeights encoder = encoder_of(c);
    std::vector<std::vector<Code>> codes;
    encode(args_of(c, encoder, codes));
    const std::string difference = encode_cases::difference(codes, encode_cases::expected(c));
    if (!difference.empty()) check::report(__FILE__, __LINE__, c.name + ": " + difference);
  }
}

TEST(threads_that_help_others_change_nothing) {
  const Isa isa_before = active_isa();
  const int threads_before = thread_count();
  std::uint64_t shared = 0;
  int runs = 0;
  for (const encode_cases::Case& one : encode_cases::all()) {
    // Enough for several blocks a thread.
    const encode_cases::Case c = repeated(one, one.latents <= 4096 ? 150 : 2100);
    const auto wanted = encode_cases::expected(one);
    for (const Isa isa : kAllIsas) {
      if (!cpu_has(isa) || (isa == Isa::reference && c.latents > 4096)) continue;
      set_isa(isa);
      set_thread_count(c.latents <= 4096 ? 3 : 2);
      const EncoderWeights encoder = encoder_of(c);
      for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::int8}) {
        const bool centred = precision != Precision::fp32 && !c.mean.empty();
        const auto screen = make_screen(encoder, precision, centred ? c.mean.data() : nullptr);
        std::vector<std::vector<Code>> codes;
        EncodeCount count;
        std::atomic<std::uint32_t> looks{0};
        EncodeArgs args = args_of(c, encoder, codes);
        args.screen = screen.get();
        args.count = &count;
        args.share = 1;
        // Owners and helpers are held up in turns.
        args.check = [&] {
          std::this_thread::sleep_for(std::chrono::microseconds(50 * (looks++ * 2654435761u >> 28)));
        };
        encode(args);
        shared += count.shared;
        ++runs;
        for (std::size_t t = 0; t < c.tokens; t += one.tokens) {
          const auto begin = codes.begin() + static_cast<std::ptrdiff_t>(t);
          const std::string difference =
              encode_cases::difference({begin, begin + static_cast<std::ptrdiff_t>(one.tokens)}, wanted);
          if (!difference.empty())
            check::report(__FILE__, __LINE__,
                          c.name + ", " + isa_name(isa) + ", " + precision_name(precision) + ", from token " +
                              std::to_string(t) + ": " + difference);
        }
      }
    }
  }
  CHECK(shared > static_cast<std::uint64_t>(runs));
  set_isa(isa_before);
  set_thread_count(threads_before);
}

TEST(a_stop_ends_owners_and_helpers) {
  const int threads_before = thread_count();
  set_thread_count(3);
  const auto cases = encode_cases::all();
  const auto found = std::find_if(cases.begin(), cases.end(), [](const encode_cases::Case& one) {
    return one.latents <= 4096 && one.rule == SelectionRule::topk && one.tokens >= 16;
  });
  const encode_cases::Case c = repeated(*found, 150);
  const EncoderWeights encoder = encoder_of(c);
  std::vector<std::vector<Code>> codes;
  int stopped = 0;
  for (std::uint32_t at = 0; at < 40; ++at) {
    std::atomic<std::uint32_t> looks{0};
    EncodeArgs args = args_of(c, encoder, codes);
    args.share = 1;
    args.check = [&] {
      if (looks++ == at) fail(ErrorCode::aborted, "stop");
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    };
    try {
      encode(args);
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::aborted);
      ++stopped;
    }
  }
  CHECK(stopped > 0);
  set_thread_count(threads_before);
}
