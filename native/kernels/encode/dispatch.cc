// The driver of encoding: blocks of tokens that fit the cache stream over the latents; candidates are chosen
// per token (candidates.h). Threads take blocks, and help with the blocks of others when none is left
// (shared_block.h).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "native/core/check_finite.h"
#include "native/core/spares.h"
#include "native/core/thread_pool.h"
#include "native/kernels/encode/bf16_variants.h"
#include "native/kernels/encode/block.h"
#include "native/kernels/encode/candidates.h"
#include "native/kernels/encode/int8_copy.h"
#include "native/kernels/encode/int8_variants.h"
#include "native/kernels/encode/shared_block.h"
#include "native/kernels/encode/variants.h"

namespace personascope {

const Variants<EncodeKernels>& encode_variants() {
  static const Variants<EncodeKernels> variants = {encode_reference, encode_avx2, encode_avx512};
  return variants;
}

const ScreenKernels& screen_kernels(Precision precision) {
  const Isa isa = active_isa();
  switch (precision) {
    case Precision::int8:
      if (isa == Isa::avx512 && __builtin_cpu_supports("avx512vnni")) return int8_avx512;
      return isa == Isa::reference ? int8_reference : int8_avx2;
    case Precision::bf16:
      if (multiplies_bf16()) return bf16_avx512;
      return isa == Isa::reference ? bf16_reference : bf16_avx2;
    case Precision::fp32:
      break;
  }
  return isa == Isa::avx512 ? encode_avx512.fp32
         : isa == Isa::avx2 ? encode_avx2.fp32
                            : encode_reference.fp32;
}

bool multiplies_bf16() {
  return active_isa() == Isa::avx512 && __builtin_cpu_supports("avx512bf16");
}

namespace {

constexpr std::size_t kPanelBytes = std::size_t{1} << 19;  // of a block's tokens: half of a 1 MB L2
constexpr std::size_t kSmallEncoder = 4096;                // latents
constexpr std::size_t kLeastShare = std::size_t{1} << 19;  // products worth waking a thread for
constexpr std::size_t kLeastBlock = 64;                    // tokens worth streaming over all weights for
constexpr std::size_t kMostCodes = std::size_t{1} << 20;
// A block's thresholds are sharpened when so many times k latents are screened, and then so many times more.
constexpr std::size_t kFirstSharpening = 16, kNextSharpening = 4;
constexpr std::size_t kListBytes = std::size_t{1} << 25;  // of a block's lists, unless k asks for more
constexpr std::uint32_t kOpenCapacity = 512;              // of lists that are emptied when full

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

// One call of encode.
struct Plan {
  const EncodeArgs& args;
  const EncoderWeights& encoder;
  const EncodeKernels& kernels;
  const ScreenKernels& screening;
  std::size_t padded = 0;
  std::size_t k = 0;      // codes a list: k, 1 for groupmax, 0 for rules without a bound
  std::size_t group = 0;  // latents of a group; all of them but for groupmax
  // Latents, or groups of groupmax: threads that share a block take `claim` of them at once, whole steps.
  std::size_t units = 0, unit_step = 1, claim = 1;
  std::uint32_t capacity = 0;
  float threshold = 0;  // where lists begin
  std::size_t block_tokens = 0, blocks = 0;
};

struct Compaction {
  Chooser* chooser;
  Candidates* candidates;
  std::size_t first;
};

void compact(void* context, std::size_t token) {
  const auto& c = *static_cast<Compaction*>(context);
  c.chooser->compact(*c.candidates, c.first + token);
}

struct Scratch {
  Block block;
  Candidates candidates;
  Chooser chooser;
  AlignedBuffer<float> wide;          // rows of one step in fp32
  AlignedBuffer<std::uint16_t> half;  // the same in bf16
};
Spares<Scratch>& scratches() {
  static auto* leaked = new Spares<Scratch>;  // threads outlive static destruction
  return *leaked;
}

// Points args at the weights of latents [begin, end) as the precision reads them.
void point_at_weights(const Plan& plan, Scratch& scratch, ScreenArgs& args) {
  const EncoderWeights& encoder = plan.encoder;
  const std::size_t next = std::min(args.end, encoder.latents - 1);  // what comes after this step, about
  switch (args.screen->precision) {
    case Precision::int8:
      args.weights = args.screen->copy->panel_of(args.begin);
      args.wanted = reinterpret_cast<const char*>(args.screen->copy->panel_of(next));
      return;
    case Precision::bf16:
      args.wanted = reinterpret_cast<const char*>(encoder.rows.row(next));
      if (encoder.rows.dtype == Dtype::bf16 && encoder.width % 2 == 0) {
        args.weights = encoder.rows.row(args.begin);
        args.weights_stride = encoder.rows.stride;
        return;
      }
      if (scratch.wide.size() < plan.padded) scratch.wide = AlignedBuffer<float>(plan.padded);
      if (scratch.half.size() < plan.screening.step * plan.padded)
        scratch.half = AlignedBuffer<std::uint16_t>(plan.screening.step * plan.padded);
      for (std::size_t l = args.begin; l < args.end; ++l) {
        plan.kernels.widen(encoder.rows, l, scratch.wide.data());
        plan.kernels.round_bf16(scratch.wide.data(), plan.padded,
                                scratch.half.data() + (l - args.begin) * plan.padded);
      }
      args.weights = reinterpret_cast<const std::uint8_t*>(scratch.half.data());
      args.weights_stride = plan.padded * sizeof(std::uint16_t);
      return;
    case Precision::fp32:
      break;
  }
  args.wanted = reinterpret_cast<const char*>(encoder.rows.row(next));
  if (encoder.rows.dtype == Dtype::f32) {
    args.weights = encoder.rows.row(args.begin);
    args.weights_stride = encoder.rows.stride;
    return;
  }
  if (scratch.wide.size() < plan.screening.step * plan.padded)
    scratch.wide = AlignedBuffer<float>(plan.screening.step * plan.padded);
  for (std::size_t l = args.begin; l < args.end; ++l)
    plan.kernels.widen(encoder.rows, l, scratch.wide.data() + (l - args.begin) * plan.padded);
  args.weights = reinterpret_cast<const std::uint8_t*>(scratch.wide.data());
  args.weights_stride = plan.padded * sizeof(float);
}

// Where a thread gets its units from: all of a range.
class Whole {
 public:
  explicit Whole(Range range) : range_(range) {}
  Range next() { return std::exchange(range_, {}); }
  void exchange(Candidates&, std::size_t&) {}

 private:
  Range range_;
};

// Screens the latents that `source` gives for the whole block.
template <class Source>
void screen_latents(const Plan& plan, const Block& block, Source& source, Scratch& scratch,
                    Candidates& candidates) {
  Compaction compaction{&scratch.chooser, &candidates, 0};
  const std::size_t step = plan.screening.step, group = block.group;
  ScreenArgs args;
  args.screen = plan.args.screen;
  args.width = args.screen->precision == Precision::int8 ? plan.padded : plan.encoder.width;
  args.capacity = candidates.capacity;
  args.compact = compact;
  args.context = &compaction;
  // A step's bytes of weights, shared out to the panels of the step before.
  const std::size_t bytes = args.screen->precision == Precision::int8
                                ? Int8Copy::panel_bytes(args.width)
                                : step * args.width * dtype_size(plan.encoder.rows.dtype);
  args.wanted_bytes = round_up((bytes + block.panels - 1) / block.panels, 64);
  // Between two looks at the abort flag: a few milliseconds of products.
  const std::size_t look = std::max<std::size_t>(1, 400'000'000 / (step * block.tokens * plan.padded + 1));
  // Exact values of what is likeliest so far keep many latents out of the lists from then on.
  const bool sharpens = args.screen->precision != Precision::fp32 && plan.k > 0;
  std::size_t sharpened = kFirstSharpening * plan.k, seen = 0, steps = 0;
  for (Range range = source.next(); !range.empty(); range = source.next()) {
    source.exchange(candidates, seen);
    for (std::size_t latent = range.begin; latent < range.end; latent = args.end, ++steps) {
      if (sharpens && seen >= sharpened) {
        scratch.chooser.sharpen(candidates, 0, block.tokens);
        while (seen >= sharpened) sharpened *= kNextSharpening;
      }
      if (plan.args.check && steps % look == 0) plan.args.check();
      args.begin = latent;
      args.end = std::min(range.end, latent / step * step + step);
      seen += args.end - args.begin;
      point_at_weights(plan, scratch, args);
      const char* wanted = args.wanted;
      for (std::size_t p = 0; p < block.panels; ++p) {
        compaction.first = p * group;
        args.tokens = std::min(group, block.tokens - p * group);
        args.panel = block.panel(p);
        args.wanted = wanted + p * args.wanted_bytes;
        args.token_scale = block.scale.data() + p * group;
        args.norm = block.norm.data() + p * group;
        args.error = block.error.data() + p * group;
        args.thresholds = candidates.thresholds.data() + p * group;
        args.lists = candidates.lists.data() + p * group;
        plan.screening.screen(args);
      }
    }
  }
}

// Screens the units that `source` gives (latents, or whole groups of groupmax) for the block; what is certain
// then lies in candidates.done, the rest in its lists.
template <class Source>
void screen_units(const Plan& plan, const Block& block, Source source, Scratch& scratch,
                  Candidates& candidates) {
  Chooser& chooser = scratch.chooser;
  chooser.use(plan.encoder, plan.kernels, block.rows.data(), plan.padded, plan.k);
  candidates.reset(block.tokens, block.panels * block.group, plan.capacity, plan.threshold);
  if (plan.encoder.selection.rule != SelectionRule::groupmax) {
    screen_latents(plan, block, source, scratch, candidates);
    return;
  }
  for (Range range = source.next(); !range.empty(); range = source.next())
    for (std::size_t unit = range.begin; unit < range.end; ++unit) {
      candidates.restart(block.tokens, plan.threshold);
      Whole latents({unit * plan.group, (unit + 1) * plan.group});
      screen_latents(plan, block, latents, scratch, candidates);
      chooser.resolve(candidates, 0, block.tokens);
    }
}

void write(const Plan& plan, std::size_t token, std::vector<Code>& codes) {
  const EncodeArgs& args = plan.args;
  sort_codes(codes);
  if (args.codes) {
    args.codes[token] = codes;
    return;
  }
  for (std::size_t i = 0; i < codes.size(); ++i) {
    args.indices[token * args.k + i] = codes[i].latent;
    args.values[token * args.k + i] = codes[i].value;
  }
  args.counts[token] = static_cast<std::uint32_t>(codes.size());
}

void load(const Plan& plan, Block& block, std::size_t number) {
  const std::size_t first = number * plan.block_tokens;
  block.load(plan.kernels, plan.screening, plan.args, first,
             std::min(plan.block_tokens, plan.args.tokens - first));
}

// Adds up the work of chunks that run side by side.
struct Counter {
  std::atomic<std::uint64_t> screened{0}, rescored{0}, shared{0};
};

// Scratch memory of one chunk, whose work is added to the counter in the end.
class Worker {
 public:
  explicit Worker(Counter& counter) : counter_(counter), taken_(scratches()), scratch(*taken_) {
    scratch.chooser.count = {};
  }
  ~Worker() {
    counter_.screened += scratch.chooser.count.screened;
    counter_.rescored += scratch.chooser.count.rescored;
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

 private:
  Counter& counter_;
  const Spares<Scratch>::Taken taken_;

 public:
  Scratch& scratch;
};

using Shared = SharedBlock<Worker>;

// The thread whose block it is. Until it ends the block stays; ending waits for helpers.
class Owner {
 public:
  explicit Owner(Shared& shared) : shared_(shared) { shared_.load(); }
  ~Owner() { shared_.close(); }
  Owner(const Owner&) = delete;
  Owner& operator=(const Owner&) = delete;

  struct Source {
    Shared* shared;
    Range next() { return shared->take_front(); }
    void exchange(Candidates& candidates, std::size_t& seen) { shared->publish(candidates, seen); }
  };
  Source open(const Plan& plan, const Block& block) {
    shared_.open(block, plan.units, plan.claim, plan.unit_step);
    return {&shared_};
  }
  std::vector<std::unique_ptr<Worker>> close() { return shared_.close(); }

 private:
  Shared& shared_;
};

// Adds what a helper found to the block's own candidates.
void add(Candidates& found, Scratch& scratch, std::size_t tokens) {
  Candidates& own = scratch.candidates;
  for (std::size_t t = 0; t < tokens; ++t) {
    own.done[t].insert(own.done[t].end(), found.done[t].begin(), found.done[t].end());
    own.thresholds[t] = std::max(own.thresholds[t], found.thresholds[t]);
    const CandidateList& from = found.lists[t];
    for (std::uint32_t i = 0; i < from.count; ++i) {
      if (!(from.upper[i] >= own.thresholds[t])) continue;
      CandidateList& to = own.lists[t];
      if (to.count == own.capacity) scratch.chooser.compact(own, t);
      to.upper[to.count] = from.upper[i];
      to.lower[to.count] = from.lower[i];
      to.value[to.count] = from.value[i];
      to.index[to.count++] = from.index[i];
    }
  }
}

void encode_block(const Plan& plan, std::size_t number, Shared& shared, Counter& counter) {
  const Worker worker(counter);
  Scratch& scratch = worker.scratch;
  Block& block = scratch.block;
  Owner owner(shared);
  load(plan, block, number);
  screen_units(plan, block, owner.open(plan, block), scratch, scratch.candidates);
  for (const std::unique_ptr<Worker>& helper : owner.close())
    add(helper->scratch.candidates, scratch, block.tokens);
  scratch.chooser.resolve(scratch.candidates, 0, block.tokens);
  for (std::size_t t = 0; t < block.tokens; ++t) write(plan, block.first + t, scratch.candidates.done[t]);
}

// Screens what is left of another thread's block.
void help(const Plan& plan, Shared& shared, Counter& counter) {
  const Block* block = shared.enter();
  if (!block) return;
  struct Source {
    Shared* shared;
    Counter* counter;
    Range next() {
      const Range range = shared->take_back();
      counter->shared += range.end - range.begin;
      return range;
    }
    void exchange(Candidates& candidates, std::size_t& seen) { shared->learn(candidates, seen); }
  };
  std::unique_ptr<Worker> worker;
  try {
    worker = std::make_unique<Worker>(counter);
    screen_units(plan, *block, Source{&shared, &counter}, worker->scratch, worker->scratch.candidates);
  } catch (...) {
    shared.leave(nullptr);
    throw;
  }
  shared.leave(std::move(worker));
}

// Until every block is about to be finished.
void help_others(const Plan& plan, std::vector<Shared>& blocks, Counter& counter) {
  for (;;) {
    Shared* most = nullptr;
    std::size_t left = 0;
    bool wait = false;
    for (Shared& one : blocks) {
      wait |= one.loading();
      if (one.left() <= left) continue;
      left = one.left();
      most = &one;
    }
    if (most)
      help(plan, *most, counter);
    else if (wait)
      std::this_thread::yield();
    else
      return;
  }
}

// Each thread takes whole blocks of tokens, and helps others when there are no more.
void encode_blocks(const Plan& plan, Counter& counter) {
  std::vector<Shared> blocks(plan.blocks);
  std::atomic<std::size_t> next{0};
  const bool helps = plan.units >= 2 * plan.claim;
  const auto threads = static_cast<std::size_t>(thread_count());
  parallel_for(helps ? threads : std::min(threads, plan.blocks), 1, [&](std::size_t, std::size_t) {
    try {
      for (std::size_t b = next++; b < plan.blocks; b = next++) encode_block(plan, b, blocks[b], counter);
      if (helps) help_others(plan, blocks, counter);
    } catch (...) {
      next = plan.blocks;
      throw;
    }
  });
}

void check_sizes(const EncoderWeights& encoder, std::size_t x_stride) {
  require(encoder.rows.data && encoder.bias, ErrorCode::invalid_argument,
          "encode: the encoder has no weights");
  require(x_stride >= encoder.width, ErrorCode::invalid_argument,
          "encode: rows of " + std::to_string(x_stride) + " values, expected at least " +
              std::to_string(encoder.width));
}

}  // namespace

void encode(const EncodeArgs& given) {
  EncodeArgs args = given;
  const EncoderWeights& encoder = *args.encoder;
  if (!args.screen) args.screen = encoder.screen.get();
  check_sizes(encoder, args.x_stride);
  require(args.screen != nullptr, ErrorCode::internal, "encode: the encoder has no screen");
  const ScreenKernels& screening = screen_kernels(args.screen->precision);
  const Selection& selection = encoder.selection;
  const bool groups = selection.rule == SelectionRule::groupmax;
  if (selection.bounded()) {
    require(args.k >= 1 && args.k <= encoder.latents, ErrorCode::invalid_argument,
            "encode: k is " + std::to_string(args.k) + ", expected 1 to " + std::to_string(encoder.latents));
    require(args.k <= kMostCodes, ErrorCode::invalid_argument,
            "encode: k is " + std::to_string(args.k) + ", expected at most " + std::to_string(kMostCodes));
    require(!groups || encoder.latents % args.k == 0, ErrorCode::invalid_argument,
            "encode: " + std::to_string(encoder.latents) + " latents do not make " + std::to_string(args.k) +
                " equal groups");
  } else {
    require(args.codes != nullptr, ErrorCode::invalid_argument,
            "encode: this selection rule gives any number of codes; k places a token cannot hold them");
  }
  if (args.tokens == 0) return;
  check_finite("activations", args.x, args.tokens, encoder.width, args.x_stride, args.first_token);

  const EncodeKernels kernels = encode_variants().active();
  const std::size_t threads = static_cast<std::size_t>(thread_count());
  Plan plan{args, encoder, kernels, screening};
  plan.padded = padded_width(encoder.width);
  plan.k = groups ? 1 : selection.bounded() ? args.k : 0;
  plan.group = groups ? encoder.latents / args.k : encoder.latents;
  plan.threshold = selection.bounded() ? kLeastPositive : 0.0f;
  const std::size_t slots = screening.group, token_bytes = screening.panel_bytes(plan.padded) / slots + 1;
  std::size_t most = round_up(std::clamp<std::size_t>(kPanelBytes / token_bytes, kLeastBlock, 512), slots);
  // A block a thread, so that each has choosing to do. A small encoder stays in the cache: smaller blocks
  // cost nothing there.
  const bool small = encoder.latents <= kSmallEncoder;
  const std::size_t wanted = small ? 2 * threads : threads;
  const std::size_t fair = std::max((args.tokens + wanted - 1) / wanted, small ? 1 : kLeastBlock);
  most = std::min(most, round_up(fair, slots));
  // Blocks of about equal size: a small last one would stream over all weights for little.
  plan.blocks = (args.tokens + most - 1) / most;
  plan.block_tokens = round_up((args.tokens + plan.blocks - 1) / plan.blocks, slots);
  plan.blocks = (args.tokens + plan.block_tokens - 1) / plan.block_tokens;
  // fp32's bounds are so tight that a short list serves, and its threshold rises sooner. Others have to hold
  // what their bounds cannot tell apart: a list that is full has its token rescored alone, which reads rows
  // of W that other tokens want too.
  std::size_t room = 3 * plan.k + 64;
  if (args.screen->precision != Precision::fp32)
    room = std::clamp(kListBytes / (plan.block_tokens * 16), 8 * plan.k + 512, 32 * plan.k + 512);
  plan.capacity = plan.k == 0 ? kOpenCapacity : static_cast<std::uint32_t>(round_up(room, 16));
  plan.units = groups ? args.k : encoder.latents;
  plan.unit_step = groups ? 1 : screening.step;
  const std::size_t unit = (groups ? plan.group : 1) * std::min(plan.block_tokens, args.tokens) * plan.padded;
  const std::size_t share = std::min(args.share / unit, plan.units / (8 * threads));
  plan.claim = round_up(std::max(share, std::min(kLeastShare, args.share) / unit) + 1, plan.unit_step);
  Counter counter;
  encode_blocks(plan, counter);
  if (args.count) {
    args.count->screened += counter.screened;
    args.count->rescored += counter.rescored;
    args.count->shared += counter.shared;
  }
}

void pre_activations(const EncoderWeights& encoder, const float* x, std::size_t tokens, std::size_t x_stride,
                     const std::uint32_t* chosen, std::size_t count, float* out) {
  check_sizes(encoder, x_stride);
  for (std::size_t i = 0; i < count; ++i)
    if (chosen[i] >= encoder.latents)
      fail(ErrorCode::invalid_argument,
           "latent " + std::to_string(chosen[i]) + ": the encoder has " + std::to_string(encoder.latents));
  check_finite("activations", x, tokens, encoder.width, x_stride);
  const EncodeKernels kernels = encode_variants().active();
  const std::vector<std::uint32_t> same(count, 0);
  parallel_for(tokens, 32, [&](std::size_t begin, std::size_t end) {
    AlignedBuffer<float> row(padded_width(encoder.width));
    PairsArgs pairs;
    pairs.weights = &encoder.rows;
    pairs.rows = row.data();
    pairs.padded = row.size();
    pairs.latents = chosen;
    pairs.tokens = same.data();
    pairs.count = count;
    for (std::size_t t = begin; t < end; ++t) {
      kernels.prepare(x + t * x_stride, encoder.centre, encoder.width, row.data());
      pairs.out = out + t * count;
      kernels.products(pairs);
      for (std::size_t i = 0; i < count; ++i) out[t * count + i] += encoder.bias[chosen[i]];
    }
  });
}

}  // namespace personascope
