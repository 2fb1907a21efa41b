// Screening with mma.sync, sm_80 and later: 128 latents x 128 tokens a block, operands in a ring of shared
// memory that cp.async fills.
#include "cuda/device/launch.cuh"
#include "cuda/encode/push.cuh"
#include "cuda/encode/screen_mma.cuh"
#include "cuda/shared/tiles.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 32 * kBlockWarps, kStages = 4;
constexpr int kStageBytes = (kBlockLatents + kBlockTokens) * kStepBytes;
constexpr int kChunkRows = kThreads / 4;  // rows that all threads copy at once, a chunk each
constexpr int kRowTiles = kWarpLatents / kMmaRows, kColumnTiles = kWarpTokens / kMmaColumns;
static_assert(kBlockLatents == 2 * kChunkRows && kBlockTokens == 2 * kChunkRows);

template <class Mma>
__global__ void __launch_bounds__(kThreads, 2) screen_portable_kernel(const ScreenArgs args) {
  std::uint8_t* ring = dynamic_shared<std::uint8_t>();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const TileSchedule schedule(args.count, args.tokens, kBlockLatents, kBlockTokens);
  const int steps = static_cast<int>(args.row_bytes / kStepBytes);
  const Place2 origin = warp_origin(warp);

  for (std::uint64_t tile = blockIdx.x; tile < schedule.tiles(); tile += gridDim.x) {
    const std::uint32_t first = schedule.latent_tile(tile) * kBlockLatents;
    const std::uint32_t token = schedule.token_tile(tile) * kBlockTokens;
    // Row r of a stage: a latent for r < 128, else a token; this thread copies a chunk of rows tid / 4 + 64
    // i. Latents beyond the end repeat the last one.
    const std::uint32_t row = threadIdx.x / 4;
    const std::uint8_t* at_column =
        args.token_rows + (token + row) * args.row_bytes + threadIdx.x % 4 * kChunkBytes;
    const std::uint8_t* at_rows[2];
    for (int i = 0; i < 2; ++i)
      at_rows[i] = args.rows + min(first + row + i * kChunkRows, args.count - 1) * args.row_stride +
                   threadIdx.x % 4 * kChunkBytes;
    const auto fetch = [&](int step) {
      if (step < steps) {
        std::uint8_t* to = ring + step % kStages * kStageBytes + threadIdx.x * kChunkBytes;
        const std::size_t from = static_cast<std::size_t>(step) * kStepBytes;
        copy_async(to, at_rows[0] + from);
        copy_async(to + kThreads * kChunkBytes, at_rows[1] + from);
        copy_async(to + 2 * kThreads * kChunkBytes, at_column + from);
        copy_async(to + 3 * kThreads * kChunkBytes, at_column + kChunkRows * args.row_bytes + from);
      }
      copy_commit();
    };
    __syncthreads();  // the tile before is read to its end
    for (int step = 0; step < kStages - 1; ++step) fetch(step);

    typename Mma::Sum sums[kRowTiles][kColumnTiles][4] = {};
    for (int step = 0; step < steps; ++step) {
      copy_wait<kStages - 2>();
      __syncthreads();  // this step has come, and everybody is done with the one before
      fetch(step + kStages - 1);
      const std::uint8_t* stage = ring + step % kStages * kStageBytes;
      const std::uint8_t* at = stage + (origin.row + chunk_row(lane)) * kStepBytes + chunk_offset(lane);
      uint4 rows[kRowTiles][2];
#pragma unroll
      for (int r = 0; r < kRowTiles; ++r) {
        rows[r][0] = *reinterpret_cast<const uint4*>(at + r * kMmaRows * kStepBytes);
        rows[r][1] = *reinterpret_cast<const uint4*>(at + (r * kMmaRows + 8) * kStepBytes);
      }
      at = stage + (kBlockLatents + origin.column + chunk_row(lane)) * kStepBytes + chunk_offset(lane);
#pragma unroll
      for (int c = 0; c < kColumnTiles; ++c) {
        const uint4 column = *reinterpret_cast<const uint4*>(at + c * kMmaColumns * kStepBytes);
#pragma unroll
        for (int r = 0; r < kRowTiles; ++r) multiply_step<Mma>(sums[r][c], rows[r][0], rows[r][1], column);
      }
    }

#pragma unroll
    for (int r = 0; r < kRowTiles; ++r)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::uint32_t row = first + origin.row + r * kMmaRows + mma_accumulator(lane, 2 * half).row;
        if (row >= args.count) continue;
        const std::uint32_t latent = args.first + row;
        const LatentBound bound = load_bound(args.bounds, latent);
#pragma unroll
        for (int c = 0; c < kColumnTiles; ++c)
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            const std::uint32_t t = token + origin.column + c * kMmaColumns + mma_accumulator(lane, i).column;
            float4 column = __ldg(args.token_bounds + t);
            column.w = __ldg(args.lists.threshold + t);
            screen_one(args.lists, t, latent, static_cast<float>(sums[r][c][i]), bound, column);
          }
      }
  }
}

}  // namespace

void screen_portable(const ScreenArgs& args, cudaStream_t stream) {
  constexpr std::size_t kBytes = kStages * kStageBytes;
  const auto kernel = args.precision == DevicePrecision::bf16 ? screen_portable_kernel<Bf16Mma>
                                                              : screen_portable_kernel<Int8Mma>;
  allow_shared("screen_portable", kernel, kBytes);
  int device = 0, processors = 0;
  check_cuda(cudaGetDevice(&device), "asking for the current device");
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
             "asking the device");
  const TileSchedule schedule(args.count, args.tokens, kBlockLatents, kBlockTokens);
  const auto blocks =
      static_cast<unsigned>(schedule.tiles() < 2ull * processors ? schedule.tiles() : 2ull * processors);
  launch("screen_portable", kernel, {blocks, kThreads, kBytes}, stream, args);
}

}  // namespace personascope::cuda
