// Reading weights and tokens once: their roundings for the screens, and what the bounds need of them.
#include "cuda/device/block.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/ptx.cuh"
#include "cuda/device/rows.cuh"
#include "cuda/encode/kernels.h"
#include "cuda/shared/order.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;

// One warp a row.
template <class Reader>
__global__ void __launch_bounds__(kThreads) prepare_rows_kernel(PrepareRowsArgs args) {
  const int lane = threadIdx.x % 32;
  const std::uint64_t number = static_cast<std::uint64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (number >= args.count) return;
  const std::uint8_t* row = args.rows + number * args.stride;
  const std::uint64_t latent = args.first + number;

  double squares = 0, along = 0;
  float largest = 0;
  for (std::size_t i = lane; i < args.width; i += 32) {
    const float w = Reader::at(row, i);
    if (!isfinite(w)) atomicMin(&args.findings->non_finite, latent * args.width + i);
    squares = fma(static_cast<double>(w), static_cast<double>(w), squares);
    if (args.mean) along = fma(static_cast<double>(w), static_cast<double>(args.mean[i]), along);
    largest = fmaxf(largest, fabsf(w));
  }
  squares = warp_reduce(squares, Plus());
  along = warp_reduce(along, Plus());
  largest = warp_reduce(largest, Larger());

  // Rounding; the row is still in the cache.
  const bool int8 = args.precision == DevicePrecision::int8;
  const Int8Scale scale = int8 ? int8_scale(largest) : Int8Scale{1, 1};
  const std::size_t places = int8 ? args.screen_stride : args.screen_stride / 2;
  double lost = 0;
  if (args.screen_rows) {
    std::uint8_t* out = args.screen_rows + number * args.screen_stride;
    for (std::size_t i = lane; i < places; i += 32) {
      const float w = i < args.width ? Reader::at(row, i) : 0;
      double error;
      if (int8) {
        const std::int8_t q = int8_round(w, scale.inverse);
        reinterpret_cast<std::int8_t*>(out)[i] = q;
        error = int8_error(w, q, scale.scale);
      } else {
        const std::uint16_t half = bf16_round(w);
        reinterpret_cast<std::uint16_t*>(out)[i] = half;
        error = static_cast<double>(w) - bf16_widen(half);
      }
      lost = fma(error, error, lost);
    }
    lost = warp_reduce(lost, Plus());
  }
  if (lane != 0) return;
  const LatentTerms terms = latent_terms(args.selection, args.bias, latent);
  const RowFacts facts = {sqrt(squares), sqrt(lost), along};
  const LatentBound bound =
      latent_bound(args.precision, args.width, facts, scale.scale, terms, args.mean_norm);
  args.bounds.scale[latent] = bound.scale;
  args.bounds.bias[latent] = bound.bias;
  args.bounds.slack_norm[latent] = bound.slack_norm;
  args.bounds.slack_error[latent] = bound.slack_error;
  args.bounds.slack_offset[latent] = bound.slack_offset;
  const double size = facts.norm * (terms.scale > 1 ? terms.scale : 1.0);
  if (!(size < kLargest)) atomicMin(&args.findings->overflow, latent);
  atomicMax(&args.findings->largest_norm, float_bits(rounded_up(size)));
}

struct TokenShared {
  double sums[kWarps];
  float maxima[kWarps];
};

// One block a token.
__global__ void __launch_bounds__(kThreads) prepare_tokens_kernel(PrepareTokensArgs args) {
  auto& [sums, maxima] = static_shared<TokenShared>();
  const std::uint32_t token = blockIdx.x;
  const bool int8 = args.precision == DevicePrecision::int8;
  const std::size_t row_bytes = screen_bytes(args.precision, args.width);
  const std::size_t places = int8 ? row_bytes : row_bytes / 2;
  std::uint8_t* out = args.screen_rows + token * row_bytes;
  if (token >= args.tokens) {
    for (std::size_t i = threadIdx.x; i < row_bytes; i += kThreads) out[i] = 0;
    if (threadIdx.x == 0) args.bounds[token] = make_float4(0, 0, 0, 0);
    return;
  }
  const float* x = args.x + token * args.stride;
  float* row = args.rows + token * padded_width(args.width);
  double squares = 0, centred_squares = 0;
  float largest = 0;
  for (std::size_t i = threadIdx.x; i < padded_width(args.width); i += kThreads) {
    float value = 0;
    if (i < args.width) {
      value = x[i];
      if (!isfinite(value))
        atomicMin(&args.findings->non_finite, static_cast<unsigned long long>(token) * args.width + i);
      if (args.centre) value -= args.centre[i];
    }
    row[i] = value;
    const float centred = i < args.width && args.mean ? value - args.mean[i] : value;
    squares = fma(static_cast<double>(value), static_cast<double>(value), squares);
    centred_squares = fma(static_cast<double>(centred), static_cast<double>(centred), centred_squares);
    largest = fmaxf(largest, fabsf(centred));
  }
  squares = block_reduce<kThreads>(squares, sums, Plus());
  centred_squares = block_reduce<kThreads>(centred_squares, sums, Plus());
  largest = block_reduce<kThreads>(largest, maxima, Larger());

  const Int8Scale scale = int8 ? int8_scale(largest) : Int8Scale{1, 1};
  double lost = 0;
  for (std::size_t i = threadIdx.x; i < places; i += kThreads) {
    const float value = i < args.width ? row[i] : 0;  // this thread's own, or 0
    const float centred = i < args.width && args.mean ? value - args.mean[i] : value;
    double error;
    if (int8) {
      const std::int8_t q = int8_round(centred, scale.inverse);
      reinterpret_cast<std::int8_t*>(out)[i] = q;
      error = int8_error(centred, q, scale.scale);
    } else {
      const std::uint16_t half = bf16_round(centred);
      reinterpret_cast<std::uint16_t*>(out)[i] = half;
      error = static_cast<double>(centred) - bf16_widen(half);
    }
    lost = fma(error, error, lost);
  }
  lost = block_reduce<kThreads>(lost, sums, Plus());
  if (threadIdx.x != 0) return;
  const double length = sqrt(squares);
  if (!(args.largest_norm * length + args.largest_bias <= kLargest))
    atomicMin(&args.findings->overflow, static_cast<unsigned long long>(token));
  const TokenBound bound = token_bound(args.width, scale.scale, length, sqrt(centred_squares), sqrt(lost));
  args.bounds[token] = make_float4(bound.scale, bound.norm, bound.error, 0);
}

}  // namespace

void prepare_rows(const PrepareRowsArgs& args, cudaStream_t stream) {
  if (args.count == 0) return;
  const auto blocks = static_cast<unsigned>((args.count + kWarps - 1) / kWarps);
  with_reader(args.dtype, [&](auto reader) {
    launch("prepare_rows", prepare_rows_kernel<decltype(reader)>, {blocks, kThreads}, stream, args);
  });
}

void prepare_tokens(const PrepareTokensArgs& args, cudaStream_t stream) {
  launch("prepare_tokens", prepare_tokens_kernel, {args.padded, kThreads}, stream, args);
}

}  // namespace personascope::cuda
