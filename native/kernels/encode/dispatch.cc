// The driver of encoding: blocks of tokens that fit the cache stream over the latents; candidates are chosen
// per token (candidates.h). Tokens are shared out to threads, and latents too where tokens are few.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "native/core/check_finite.h"
#include "native/core/thread_pool.h"
#include "native/kernels/encode/candidates.h"
#include "native/kernels/encode/variants.h"

namespace personascope {

const Variants<EncodeKernels>& encode_variants() {
  static const Variants<EncodeKernels> variants = {encode_reference, encode_avx2, encode_avx512};
  return variants;
}

namespace {

constexpr std::size_t kDirectTokens = 4;      // up to so many tokens, canonical products at once are quicker
constexpr std::size_t kPanelFloats = 131072;  // of a block's tokens: half of a 1 MB L2
constexpr std::size_t kStep = 12;             // latents between two panels; a multiple of every tile's rows
constexpr std::size_t kLeastRange = 1024;     // latents worth a thread of their own
constexpr std::size_t kMostCodes = std::size_t{1} << 20;
constexpr double kLargest = 1e38;  // |w| |x'| + |b| below this: no sum can overflow fp32

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

std::uint32_t list_capacity(std::size_t k) {
  return static_cast<std::uint32_t>(round_up(2 * k + 64, 16));
}

// Some tokens made ready for screening. Buffers grow and are kept for the next block.
struct Block {
  std::size_t first = 0, tokens = 0, panels = 0;
  AlignedBuffer<float> rows, panel, norms;

  void load(const EncodeKernels& kernels, const EncodeArgs& args, std::size_t begin, std::size_t count,
            bool direct) {
    const EncoderWeights& encoder = *args.encoder;
    const std::size_t padded = padded_width(encoder.width), slots = round_up(count, kernels.group);
    const std::size_t panel_floats = encoder.width * kernels.group;
    first = begin;
    tokens = count;
    panels = slots / kernels.group;
    if (rows.size() < slots * padded) rows = AlignedBuffer<float>(slots * padded);
    if (norms.size() < slots) norms = AlignedBuffer<float>(slots);
    if (!direct && panel.size() < panels * panel_floats) panel = AlignedBuffer<float>(panels * panel_floats);
    for (std::size_t t = 0; t < slots; ++t) {
      norms[t] = 0;
      if (t >= tokens) continue;
      const double norm = std::sqrt(kernels.prepare(args.x + (first + t) * args.x_stride, encoder.centre,
                                                    encoder.width, rows.data() + t * padded));
      if (!(encoder.largest_norm * norm + encoder.largest_bias <= kLargest))
        fail(ErrorCode::non_finite, "activations: token " + std::to_string(args.first_token + first + t) +
                                        " has length " + std::to_string(norm) +
                                        "; its products with encoder rows of length up to " +
                                        std::to_string(encoder.largest_norm) + " overflow fp32");
      // Rounded up; far from underflow, so that slack_scale * norm covers lost subnormals.
      if (norm > 0) norms[t] = std::max(static_cast<float>(norm * (1 + 1e-6)), 1e-10f);
    }
    if (direct) return;
    for (std::size_t p = 0; p < panels; ++p)
      kernels.pack(rows.data() + p * kernels.group * padded,
                   std::min(kernels.group, tokens - p * kernels.group), encoder.width,
                   panel.data() + p * panel_floats);
  }
};

// The candidates of a block's tokens over one range of latents.
struct Candidates {
  std::uint32_t capacity = 0;
  AlignedBuffer<float> thresholds, bounds;
  AlignedBuffer<std::uint32_t> indices;
  std::vector<CandidateList> lists;

  void reset(std::size_t tokens, std::size_t slots, std::uint32_t new_capacity) {
    capacity = new_capacity;
    if (thresholds.size() < slots) thresholds = AlignedBuffer<float>(slots);
    if (bounds.size() < slots * capacity * 2) bounds = AlignedBuffer<float>(slots * capacity * 2);
    if (indices.size() < slots * capacity) indices = AlignedBuffer<std::uint32_t>(slots * capacity);
    lists.resize(slots);
    for (std::size_t t = 0; t < slots; ++t) {
      thresholds[t] = t < tokens ? kLeastPositive : std::numeric_limits<float>::infinity();
      lists[t] = {bounds.data() + 2 * t * capacity, bounds.data() + (2 * t + 1) * capacity,
                  indices.data() + t * capacity, 0};
    }
  }
};

struct Compaction {
  Chooser* chooser;
  Candidates* candidates;
  const float* rows;  // x' of the panel's tokens
  std::size_t padded, first;
};

void compact(void* context, std::size_t token) {
  const auto& c = *static_cast<Compaction*>(context);
  CandidateList& list = c.candidates->lists[c.first + token];
  float& threshold = c.candidates->thresholds[c.first + token];
  c.chooser->trim(list, threshold, c.chooser->k / 4);
  if (list.count > c.candidates->capacity / 4 * 3)
    c.chooser->settle(list, threshold, c.rows + token * c.padded);
}

// Screens latents [begin, end) for the whole block.
void screen(const EncodeKernels& kernels, const EncodeArgs& args, const Block& block, std::size_t begin,
            std::size_t end, bool direct, Chooser& chooser, Candidates& candidates) {
  const EncoderWeights& encoder = *args.encoder;
  const std::size_t padded = padded_width(encoder.width), group = kernels.group;
  candidates.reset(block.tokens, block.panels * group, list_capacity(args.k));
  Compaction compaction{&chooser, &candidates, nullptr, padded, 0};
  ScreenArgs screening;
  screening.encoder = &encoder;
  screening.slack_scale = encoder.slack_scale.data();
  screening.slack_offset = encoder.slack_offset.data();
  screening.capacity = candidates.capacity;
  screening.compact = compact;
  screening.context = &compaction;
  // Between two looks at the abort flag: a few milliseconds of products.
  const std::size_t look = std::max<std::size_t>(1, 400'000'000 / (kStep * block.tokens * padded + 1));
  std::size_t steps = 0;
  for (std::size_t latent = begin; latent < end; latent += kStep, ++steps) {
    if (args.check && steps % look == 0) args.check();
    screening.begin = latent;
    screening.end = std::min(end, latent + kStep);
    for (std::size_t p = 0; p < block.panels; ++p) {
      compaction.first = p * group;
      compaction.rows = screening.rows = block.rows.data() + p * group * padded;
      screening.tokens = std::min(group, block.tokens - p * group);
      screening.panel = direct ? nullptr : block.panel.data() + p * group * encoder.width;
      // The rows of the next step, shared out to the panels of this one; beyond the last row nothing is asked
      // for.
      const std::size_t rows_after = std::min(end, latent + 2 * kStep);
      screening.prefetch = reinterpret_cast<const char*>(
          latent + kStep < rows_after ? encoder.weights + (latent + kStep) * encoder.stride +
                                            p * (kStep * encoder.stride / block.panels)
                                      : encoder.weights + latent * encoder.stride);
      screening.norms = block.norms.data() + p * group;
      screening.thresholds = candidates.thresholds.data() + p * group;
      screening.lists = candidates.lists.data() + p * group;
      (direct ? kernels.screen_direct : kernels.screen)(screening);
    }
  }
}

struct Scratch {
  Block block;
  Candidates candidates;
  Chooser chooser;
};
thread_local Scratch t_scratch;

Chooser& chooser_for(const EncodeKernels& kernels, const EncodeArgs& args) {
  Chooser& chooser = t_scratch.chooser;
  chooser.kernels = &kernels;
  chooser.encoder = args.encoder;
  chooser.k = args.k;
  return chooser;
}

void write(Chooser& chooser, const EncodeArgs& args, std::size_t token, CandidateList& list, float threshold,
           const float* row) {
  args.counts[token] =
      chooser.finish(list, threshold, row, args.indices + token * args.k, args.values + token * args.k);
}

// Each thread takes whole blocks of tokens.
void encode_by_tokens(const EncodeKernels& kernels, const EncodeArgs& args, std::size_t block_tokens,
                      bool direct) {
  const std::size_t padded = padded_width(args.encoder->width);
  const std::size_t blocks = (args.tokens + block_tokens - 1) / block_tokens;
  parallel_for(blocks, 1, [&](std::size_t begin, std::size_t end) {
    Scratch& scratch = t_scratch;
    Chooser& chooser = chooser_for(kernels, args);
    for (std::size_t b = begin; b < end; ++b) {
      const std::size_t first = b * block_tokens;
      scratch.block.load(kernels, args, first, std::min(block_tokens, args.tokens - first), direct);
      screen(kernels, args, scratch.block, 0, args.encoder->latents, direct, chooser, scratch.candidates);
      for (std::size_t t = 0; t < scratch.block.tokens; ++t)
        write(chooser, args, first + t, scratch.candidates.lists[t], scratch.candidates.thresholds[t],
              scratch.block.rows.data() + t * padded);
    }
  });
}

// Few tokens: each thread takes ranges of latents, and a token's candidates are then put together.
void encode_by_latents(const EncodeKernels& kernels, const EncodeArgs& args, std::size_t block_tokens,
                       std::size_t ranges, bool direct) {
  const std::size_t padded = padded_width(args.encoder->width), latents = args.encoder->latents;
  const std::size_t blocks = (args.tokens + block_tokens - 1) / block_tokens;
  const std::size_t length = round_up((latents + ranges - 1) / ranges, kStep);
  ranges = (latents + length - 1) / length;
  std::vector<Block> loaded(blocks);
  std::vector<Candidates> found(blocks * ranges);
  parallel_for(blocks, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t b = begin; b < end; ++b)
      loaded[b].load(kernels, args, b * block_tokens, std::min(block_tokens, args.tokens - b * block_tokens),
                     direct);
  });
  parallel_for(blocks * ranges, 1, [&](std::size_t begin, std::size_t end) {
    Chooser& chooser = chooser_for(kernels, args);
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t range = i % ranges;
      screen(kernels, args, loaded[i / ranges], range * length, std::min(latents, (range + 1) * length),
             direct, chooser, found[i]);
    }
  });
  parallel_for(args.tokens, 8, [&](std::size_t begin, std::size_t end) {
    Chooser& chooser = chooser_for(kernels, args);
    Candidates together;
    together.reset(1, 1, list_capacity(args.k) * static_cast<std::uint32_t>(ranges));
    for (std::size_t token = begin; token < end; ++token) {
      const std::size_t b = token / block_tokens, t = token % block_tokens;
      CandidateList list = together.lists[0];
      float threshold = kLeastPositive;
      for (std::size_t range = 0; range < ranges; ++range) {
        const Candidates& part = found[b * ranges + range];
        const CandidateList& source = part.lists[t];
        std::copy_n(source.upper, source.count, list.upper + list.count);
        std::copy_n(source.lower, source.count, list.lower + list.count);
        std::copy_n(source.index, source.count, list.index + list.count);
        list.count += source.count;
        threshold = std::max(threshold, part.thresholds[t]);
      }
      write(chooser, args, token, list, threshold, loaded[b].rows.data() + t * padded);
    }
  });
}

void check_sizes(const EncoderWeights& encoder, std::size_t x_stride) {
  require(encoder.weights && encoder.bias, ErrorCode::invalid_argument, "encode: the encoder has no weights");
  require(x_stride >= encoder.width, ErrorCode::invalid_argument,
          "encode: rows of " + std::to_string(x_stride) + " values, expected at least " +
              std::to_string(encoder.width));
}

}  // namespace

EncoderWeights::EncoderWeights(const float* weights_, std::size_t stride_, const float* bias_,
                               const float* centre_, std::size_t latents_, std::size_t width_)
    : weights(weights_),
      stride(stride_),
      bias(bias_),
      centre(centre_),
      latents(latents_),
      width(width_),
      slack_scale(latents_),
      slack_offset(latents_) {
  require(width >= 1 && width <= (std::size_t{1} << 20), ErrorCode::invalid_argument,
          "encoder: width " + std::to_string(width) + ", expected 1 to 1048576");
  require(latents >= 1 && latents < (std::size_t{1} << 32), ErrorCode::invalid_argument,
          "encoder: " + std::to_string(latents) + " latents, expected 1 to 4294967295");
  require(stride >= padded_width(width) && stride % kRowUnit == 0, ErrorCode::invalid_argument,
          "encoder: row stride " + std::to_string(stride) + ", expected a multiple of 16 of at least " +
              std::to_string(padded_width(width)));
  refresh();
}

void EncoderWeights::refresh() {
  const EncodeKernels kernels = encode_variants().active();
  const std::size_t padded = padded_width(width);
  if (centre) check_finite("b_dec", centre, 1, width, width);
  check_finite("b_enc", bias, 1, latents, latents);
  // Screening sums `width` products one after another and adds the bias (error below (width + 1) u sum |w x|,
  // u = 2^-24); the canonical product errs by at most (width / 64 + 8) u sum |w x|; sum |w x| <= |w| |x'|.
  // The rest covers the rounding of the bounds themselves.
  const double u = 0x1p-24;
  const double scale = (static_cast<double>(width) * (1 + 1.0 / 64) + 32) * u * 1.01;
  constexpr std::size_t kGrain = 256;
  std::vector<double> norms((latents + kGrain - 1) / kGrain), biases(norms.size());
  parallel_for(latents, kGrain, [&](std::size_t begin, std::size_t end) {
    for (std::size_t l = begin; l < end; ++l) {
      const double norm = std::sqrt(kernels.squared_norm(weights + l * stride, padded));
      if (!std::isfinite(norm)) check_finite("W_enc", weights, latents, width, stride);
      if (norm >= kLargest)
        fail(ErrorCode::non_finite,
             "W_enc: the row of latent " + std::to_string(l) + " has length " + std::to_string(norm));
      const double offset = std::fabs(bias[l]);
      slack_scale[l] = norm > 0 ? static_cast<float>(std::max(norm, 1e-20) * scale) : 0.0f;
      slack_offset[l] = static_cast<float>(4 * u * offset);
      norms[l / kGrain] = std::max(norms[l / kGrain], norm);
      biases[l / kGrain] = std::max(biases[l / kGrain], offset);
    }
  });
  largest_norm = *std::max_element(norms.begin(), norms.end());
  largest_bias = *std::max_element(biases.begin(), biases.end());
}

void encode(const EncodeArgs& args) {
  const EncoderWeights& encoder = *args.encoder;
  check_sizes(encoder, args.x_stride);
  require(args.k >= 1 && args.k <= encoder.latents, ErrorCode::invalid_argument,
          "encode: k is " + std::to_string(args.k) + ", expected 1 to " + std::to_string(encoder.latents));
  require(args.k <= kMostCodes, ErrorCode::invalid_argument,
          "encode: k is " + std::to_string(args.k) + ", expected at most " + std::to_string(kMostCodes));
  if (args.tokens == 0) return;
  check_finite("activations", args.x, args.tokens, encoder.width, args.x_stride, args.first_token);
  const EncodeKernels kernels = encode_variants().active();
  const std::size_t threads = static_cast<std::size_t>(thread_count());
  const bool direct = args.tokens <= std::min(kDirectTokens, kernels.group);

  std::size_t block_tokens =
      round_up(std::clamp<std::size_t>(kPanelFloats / encoder.width, 64, 256), kernels.group);
  std::size_t blocks = (args.tokens + block_tokens - 1) / block_tokens;
  if (blocks < 2 * threads && encoder.latents <= 4 * kLeastRange) {
    // A small encoder stays in the cache: smaller blocks cost nothing and give every thread work.
    block_tokens =
        std::min(block_tokens, round_up((args.tokens + 2 * threads - 1) / (2 * threads), kernels.group));
    blocks = (args.tokens + block_tokens - 1) / block_tokens;
  }
  const std::size_t ranges =
      blocks >= 2 * threads
          ? 1
          : std::clamp<std::size_t>(encoder.latents / kLeastRange, 1, (2 * threads + blocks - 1) / blocks);
  if (ranges == 1)
    encode_by_tokens(kernels, args, block_tokens, direct);
  else
    encode_by_latents(kernels, args, block_tokens, threads == 1 ? 1 : ranges, direct);
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
  parallel_for(tokens, 32, [&](std::size_t begin, std::size_t end) {
    AlignedBuffer<float> row(padded_width(encoder.width));
    for (std::size_t t = begin; t < end; ++t) {
      kernels.prepare(x + t * x_stride, encoder.centre, encoder.width, row.data());
      kernels.products(encoder, row.data(), chosen, count, out + t * count);
    }
  });
}

}  // namespace personascope
