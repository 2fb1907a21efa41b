// Screening for at most 16 tokens, as in sampling: bound by reading the weights, which go straight from
// memory into the operands of mma.sync. One warp takes 16 latents with all tokens.
#include "cuda/device/launch.cuh"
#include "cuda/encode/push.cuh"
#include "cuda/encode/screen_mma.cuh"
#include "cuda/shared/tiles.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kTogether = 4;  // steps of 64 bytes whose loads are in flight at once
static_assert(kNarrowTokens == 2 * kMmaColumns);

template <class Mma>
__global__ void __launch_bounds__(kThreads) screen_narrow_kernel(const ScreenArgs args) {
  const int lane = threadIdx.x % 32;
  const std::uint32_t first = (blockIdx.x * kWarps + threadIdx.x / 32) * kMmaRows;
  if (first >= args.count) return;
  const std::uint32_t low_row = min(first + chunk_row(lane), args.count - 1);
  const std::uint32_t high_row = min(first + chunk_row(lane) + 8, args.count - 1);
  const std::uint8_t* low = args.rows + low_row * args.row_stride + chunk_offset(lane);
  const std::uint8_t* high = args.rows + high_row * args.row_stride + chunk_offset(lane);
  const std::uint8_t* token = args.token_rows + chunk_row(lane) * args.row_bytes + chunk_offset(lane);
  const std::size_t half = kMmaColumns * args.row_bytes;  // from a token to the one 8 further

  typename Mma::Sum sums[2][4] = {};
  const std::size_t bytes = args.row_bytes;
  std::size_t at = 0;
  // Weights are read once: they need not stay in the cache, the tokens should.
  for (; at + kTogether * kStepBytes <= bytes; at += kTogether * kStepBytes) {
    uint4 rows[kTogether][2];
#pragma unroll
    for (int i = 0; i < kTogether; ++i) {
      rows[i][0] = load_once(low + at + i * kStepBytes);
      rows[i][1] = load_once(high + at + i * kStepBytes);
    }
#pragma unroll
    for (int i = 0; i < kTogether; ++i)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const uint4 column = __ldg(reinterpret_cast<const uint4*>(token + c * half + at + i * kStepBytes));
        multiply_step<Mma>(sums[c], rows[i][0], rows[i][1], column);
      }
  }
  for (; at < bytes; at += kStepBytes) {
    const uint4 row = load_once(low + at), row8 = load_once(high + at);
#pragma unroll
    for (int c = 0; c < 2; ++c)
      multiply_step<Mma>(sums[c], row, row8, __ldg(reinterpret_cast<const uint4*>(token + c * half + at)));
  }

#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const Place2 place = mma_accumulator(lane, i);
    const std::uint32_t row = first + place.row;
    if (row >= args.count) continue;
    const LatentBound bound = load_bound(args.bounds, args.first + row);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      const std::uint32_t t = c * kMmaColumns + place.column;
      float4 column = __ldg(args.token_bounds + t);
      column.w = __ldg(args.lists.threshold + t);
      screen_one(args.lists, t, args.first + row, static_cast<float>(sums[c][i]), bound, column);
    }
  }
}

}  // namespace

void screen_narrow(const ScreenArgs& args, cudaStream_t stream) {
  constexpr std::uint32_t kLatents = kWarps * kMmaRows;
  const unsigned blocks = (args.count + kLatents - 1) / kLatents;
  const auto kernel =
      args.precision == DevicePrecision::bf16 ? screen_narrow_kernel<Bf16Mma> : screen_narrow_kernel<Int8Mma>;
  launch("screen_narrow", kernel, {blocks, kThreads}, stream, args);
}

}  // namespace personascope::cuda
