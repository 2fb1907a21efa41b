#include "native/kernels/encode/screen.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "native/core/isa.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "test/native/check.h"

using namespace personascope;

namespace {

struct Problem {
  std::size_t latents, width, tokens, k;
  std::size_t stride = 0, x_stride = 0;
  std::vector<float> w, b, centre, x;
  Problem(std::size_t latents_, std::size_t width_, std::size_t tokens_, std::size_t k_,
          std::uint64_t seed = 1)
      : latents(latents_), width(width_), tokens(tokens_), k(k_) {
    stride = padded_width(width) + (seed % 2) * kRowUnit;
    x_stride = width + seed % 3;
    w.assign(latents * stride, 0.0f);
    b.resize(latents);
    centre.resize(width);
    x.resize(tokens * x_stride);
    const Philox random(seed, 0);
    std::uint64_t i = 0;
    for (std::size_t l = 0; l < latents; ++l)
      for (std::size_t j = 0; j < width; ++j) w[l * stride + j] = static_cast<float>(random.gaussian(i++));
    for (float& value : b) value = static_cast<float>(random.gaussian(i++));
    for (float& value : centre) value = static_cast<float>(random.gaussian(i++));
    for (float& value : x) value = static_cast<float>(random.gaussian(i++));
  }
  EncoderWeights encoder(bool centred = true) const {
    return EncoderWeights(w.data(), stride, b.data(), centred ? centre.data() : nullptr, latents, width);
  }
};

struct Codes {
  std::vector<std::uint32_t> indices, counts;
  std::vector<float> values;
  bool operator==(const Codes& other) const {
    return counts == other.counts && indices == other.indices &&
           std::memcmp(values.data(), other.values.data(), values.size() * sizeof(float)) == 0;
  }
};

Codes run(const Problem& p, const EncoderWeights& encoder, std::size_t from = 0,
          std::size_t to = ~std::size_t{0}, const Screen* screen = nullptr) {
  to = std::min(to, p.tokens);
  Codes codes;
  codes.indices.assign((to - from) * p.k, 77);
  codes.values.assign((to - from) * p.k, -7.0f);
  codes.counts.assign(to - from, 99);
  EncodeArgs args;
  args.encoder = &encoder;
  args.screen = screen;
  args.x = p.x.data() + from * p.x_stride;
  args.x_stride = p.x_stride;
  args.tokens = to - from;
  args.k = p.k;
  args.indices = codes.indices.data();
  args.values = codes.values.data();
  args.counts = codes.counts.data();
  encode(args);
  return codes;
}

// The contract, written down once more: every canonical product, then a full sort.
Codes expected(const Problem& p, bool centred = true) {
  Codes codes;
  codes.indices.assign(p.tokens * p.k, 77);
  codes.values.assign(p.tokens * p.k, -7.0f);
  codes.counts.assign(p.tokens, 0);
  std::vector<float> values(p.latents);
  for (std::size_t t = 0; t < p.tokens; ++t) {
    double worst = 0;
    for (std::size_t l = 0; l < p.latents; ++l) {
      float sums[64] = {};
      double exact = p.b[l], size = std::fabs(p.b[l]);
      for (std::size_t i = 0; i < p.width; ++i) {
        const float x = centred ? p.x[t * p.x_stride + i] - p.centre[i] : p.x[t * p.x_stride + i];
        sums[i % 64] = std::fma(p.w[l * p.stride + i], x, sums[i % 64]);
        exact += static_cast<double>(p.w[l * p.stride + i]) * x;
        size += std::fabs(static_cast<double>(p.w[l * p.stride + i]) * x);
      }
      for (std::size_t half = 32; half > 0; half /= 2)
        for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
      values[l] = sums[0] + p.b[l];
      worst = std::max(worst, std::fabs(values[l] - exact) / (size + 1e-30));
    }
    CHECK(worst <= (static_cast<double>(p.width) / 64 + 9) * 0x1p-24);  // against float64
    std::vector<std::uint32_t> order;
    for (std::size_t l = 0; l < p.latents; ++l)
      if (values[l] > 0) order.push_back(static_cast<std::uint32_t>(l));
    std::stable_sort(order.begin(), order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return values[a] > values[b]; });
    codes.counts[t] = static_cast<std::uint32_t>(std::min(order.size(), p.k));
    for (std::size_t i = 0; i < codes.counts[t]; ++i) {
      codes.indices[t * p.k + i] = order[i];
      codes.values[t * p.k + i] = values[order[i]];
    }
  }
  return codes;
}

template <class Body>
void every_variant(const Body& body) {
  const Isa before = active_isa();
  const int threads = thread_count();
  for (Isa isa : kAllIsas) {
    if (!cpu_has(isa)) continue;
    set_isa(isa);
    for (int count : {1, 2, 5}) {
      set_thread_count(count);
      body(std::string(isa_name(isa)) + ", " + std::to_string(count) + " threads");
    }
  }
  set_isa(before);
  set_thread_count(threads);
}

void check_problem(const Problem& p, const std::string& name, bool centred = true) {
  const Codes wanted = expected(p, centred);
  every_variant([&](const std::string& variant) {
    const EncoderWeights encoder = p.encoder(centred);
    for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::int8}) {
      // Codes do not depend on the mean that tokens are screened with: here an input itself.
      for (const float* mean : {static_cast<const float*>(nullptr), p.x.data()}) {
        if (precision == Precision::fp32 && mean) continue;
        const auto screen = make_screen(encoder, precision, mean);
        if (!(run(p, encoder, 0, p.tokens, screen.get()) == wanted))
          check::report(
              __FILE__, __LINE__,
              name + " differs: " + variant + ", " + precision_name(precision) + (mean ? ", centred" : ""));
      }
    }
  });
}

}  // namespace

TEST(random_and_odd_shapes) {
  std::uint64_t seed = 1;
  for (std::size_t width : {1, 3, 17, 63, 64, 65, 96, 130})
    for (std::size_t latents : {1, 11, 12, 13, 65, 300})
      for (std::size_t tokens : {1, 3, 16, 17, 33, 65}) {
        for (std::size_t k : {std::size_t{1}, std::size_t{3}, std::size_t{32}, latents}) {
          if (k > latents || (latents * tokens * width > 200000 && k != 3)) continue;
          ++seed;
          check_problem(Problem(latents, width, tokens, k, seed),
                        std::to_string(latents) + "x" + std::to_string(width) + ", " +
                            std::to_string(tokens) + " tokens, k " + std::to_string(k),
                        seed % 4 != 0);
        }
      }
}

TEST(large_enough_for_compaction_and_latent_ranges) {
  check_problem(Problem(9000, 40, 7, 16, 3), "9000 latents");
  check_problem(Problem(5000, 24, 300, 8, 4), "300 tokens");
  check_problem(Problem(4100, 33, 2, 64, 5), "2 tokens");
}

TEST(batch_split_changes_nothing) {
  const Problem p(700, 96, 150, 16, 9);
  const EncoderWeights encoder = p.encoder();
  const Codes whole = run(p, encoder);
  for (std::size_t cut : {1, 2, 5, 31, 100}) {
    const Codes a = run(p, encoder, 0, cut), b = run(p, encoder, cut);
    std::vector<std::uint32_t> indices = a.indices;
    indices.insert(indices.end(), b.indices.begin(), b.indices.end());
    std::vector<float> values = a.values;
    values.insert(values.end(), b.values.begin(), b.values.end());
    CHECK(indices == whole.indices);
    CHECK(values == whole.values);
  }
}

TEST(mass_ties_go_to_lower_latents) {
  Problem p(3000, 20, 40, 10, 2);
  for (std::size_t l = 1; l < p.latents; ++l) {
    std::copy_n(p.w.begin(), p.stride, p.w.begin() + static_cast<std::ptrdiff_t>(l * p.stride));
    p.b[l] = p.b[0];
  }
  check_problem(p, "equal rows");
  for (std::size_t l = 0; l < p.latents; ++l) p.b[l] = 1e3f + static_cast<float>(l % 7 == 0);
  check_problem(p, "equal rows, every seventh above");
  // values so near to each other that only canonical arithmetic tells them apart
  for (std::size_t l = 0; l < p.latents; ++l) p.w[l * p.stride] *= 1 + static_cast<float>(l % 5) * 0x1p-22f;
  check_problem(p, "nearly equal rows");
}

TEST(constant_and_zero_data) {
  Problem p(2000, 32, 40, 12, 2);
  std::fill(p.x.begin(), p.x.end(), 0.0f);
  check_problem(p, "x = 0");
  check_problem(p, "x = 0, no centre", false);
  std::fill(p.b.begin(), p.b.end(), 0.0f);
  check_problem(p, "x = 0, b = 0", false);
  const EncoderWeights encoder = p.encoder(false);
  CHECK_EQ(run(p, encoder).counts[0], 0u);  // nothing positive: no code, not a code of latent 0
  std::fill(p.x.begin(), p.x.end(), 3.0f);
  check_problem(p, "constant x", false);
  std::fill(p.w.begin(), p.w.end(), 0.0f);
  for (std::size_t l = 0; l < p.latents; ++l) p.b[l] = static_cast<float>(l % 3) - 1;
  check_problem(p, "W = 0");
}

TEST(extreme_scales) {
  Problem tiny(600, 48, 20, 9, 6);
  for (float& v : tiny.x) v *= 1e-30f;
  for (float& v : tiny.w) v *= 1e-12f;
  for (float& v : tiny.b) v *= 1e-42f;
  check_problem(tiny, "subnormal products", false);
  Problem large(600, 48, 20, 9, 8);
  for (float& v : large.x) v *= 1e17f;
  for (float& v : large.w) v *= 1e17f;
  check_problem(large, "large");
  Problem mixed(1500, 48, 40, 9, 8);
  for (std::size_t l = 0; l < mixed.latents; ++l)
    for (std::size_t i = 0; i < mixed.width; ++i)
      mixed.w[l * mixed.stride + i] *= std::pow(10.0f, static_cast<float>(l % 13) - 6);
  check_problem(mixed, "row norms over thirteen decades");
}

TEST(overflow_is_refused_not_guessed) {
  Problem p(50, 16, 4, 3, 6);
  for (float& v : p.x) v *= 1e25f;
  for (float& v : p.w) v *= 1e25f;
  every_variant([&](const std::string&) {
    const EncoderWeights encoder = p.encoder();
    CHECK_THROWS(run(p, encoder), ErrorCode::non_finite);
  });
}

TEST(non_finite_input_is_located) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    Problem p(50, 16, 40, 3, 6);
    p.x[17 * p.x_stride + 5] = bad;
    p.x[30 * p.x_stride + 1] = bad;
    every_variant([&](const std::string&) {
      const EncoderWeights encoder = p.encoder();
      std::string message;
      try {
        run(p, encoder);
      } catch (const Error& error) {
        message = error.what();
      }
      CHECK(message.find("row 17") != std::string::npos && message.find("dimension 5") != std::string::npos);
    });
  }
  Problem p(50, 16, 4, 3, 6);
  p.w[7 * p.stride + 2] = std::numeric_limits<float>::quiet_NaN();
  CHECK_THROWS(p.encoder(), ErrorCode::non_finite);
}

TEST(impossible_calls) {
  const Problem p(50, 16, 4, 3, 6);
  const EncoderWeights encoder = p.encoder();
  Problem wide(50, 16, 4, 51, 6);
  CHECK_THROWS(run(wide, encoder), ErrorCode::invalid_argument);
  CHECK_THROWS(EncoderWeights(p.w.data(), 14, p.b.data(), nullptr, 50, 15), ErrorCode::invalid_argument);
}

TEST(check_may_abort) {
  const Problem p(20000, 64, 8, 16, 6);
  const EncoderWeights encoder = p.encoder();
  std::vector<std::uint32_t> indices(p.tokens * p.k), counts(p.tokens);
  std::vector<float> values(p.tokens * p.k);
  EncodeArgs args;
  args.encoder = &encoder;
  args.x = p.x.data();
  args.x_stride = p.x_stride;
  args.tokens = p.tokens;
  args.k = p.k;
  args.indices = indices.data();
  args.values = values.data();
  args.counts = counts.data();
  std::atomic<int> looks{0};
  args.check = [&] {
    if (++looks > 0) fail(ErrorCode::aborted, "stop");
  };
  CHECK_THROWS(encode(args), ErrorCode::aborted);
}

TEST(pre_activations_are_canonical) {
  const Problem p(40, 70, 9, 40, 12);
  const Codes wanted = expected(p);
  every_variant([&](const std::string&) {
    const EncoderWeights encoder = p.encoder();
    for (std::size_t t = 0; t < p.tokens; ++t) {
      std::vector<float> out(wanted.counts[t]);
      pre_activations(encoder, p.x.data() + t * p.x_stride, 1, p.x_stride, wanted.indices.data() + t * p.k,
                      out.size(), out.data());
      CHECK(std::equal(out.begin(), out.end(), wanted.values.begin() + static_cast<std::ptrdiff_t>(t * p.k)));
    }
  });
}
