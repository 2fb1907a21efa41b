// Screening on Hopper: 128 latents x 256 tokens a block; one warp group copies tiles into a ring of shared
// memory, two multiply 64 latents each, straight from there. With pairs, two blocks of a cluster work on
// neighbouring latents and the same tokens: each copies half of the tokens' tile to both, which halves that
// traffic.
#include "cuda/device/hopper_ptx.cuh"
#include "cuda/device/launch.cuh"
#include "cuda/device/ptx.cuh"
#include "cuda/encode/push.cuh"
#include "cuda/shared/tiles.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 384, kStages = 4;
[[maybe_unused]] constexpr int kConsumerWarps = 8;  // of two warp groups
constexpr int kLatentBytes = kHopperLatents * kHopperStepBytes,
              kTokenBytes = kHopperTokens * kHopperStepBytes;
constexpr int kStageBytes = kLatentBytes + kTokenBytes;
constexpr int kBoxRows = 128;
[[maybe_unused]] constexpr int kBoxBytes = kBoxRows * kHopperStepBytes;
[[maybe_unused]] constexpr int kInstructionBytes = 32;
static_assert(kHopperLatents == kBoxRows && kHopperTokens == 2 * kBoxRows);

struct Shared {
  float4 columns[kHopperTokens];  // scale, norm, error, threshold
  std::uint64_t full[kStages], empty[kStages];
};
constexpr int kSharedBytes = 1024 + kStages * kStageBytes + static_cast<int>(sizeof(Shared));

#if defined(PERSONASCOPE_HOPPER)

// Where a walker through the ring is.
struct RingPlace {
  int stage = 0;
  std::uint32_t parity = 0;
  __device__ void next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

__device__ inline void consumers_sync() {
  named_sync<256>(1);
}

// One thread: copies every tile of this block, step by step.
template <int kCluster>
__device__ void produce(const ScreenArgs& args, const CUtensorMap* weights, const CUtensorMap* tokens,
                        std::uint32_t map_first, const TileSchedule& schedule, std::uint8_t* ring,
                        Shared& shared) {
  const std::uint32_t rank = kCluster == 1 ? 0 : cluster_rank();
  const int steps = static_cast<int>(args.row_bytes / kHopperStepBytes);
  RingPlace place;
  for (std::uint64_t tile = blockIdx.x / kCluster; tile < schedule.tiles(); tile += gridDim.x / kCluster) {
    const auto latent = static_cast<std::int32_t>(map_first + (schedule.latent_tile(tile) * kCluster + rank) *
                                                                  kHopperLatents);
    const auto token = static_cast<std::int32_t>(schedule.token_tile(tile) * kHopperTokens);
    for (int step = 0; step < steps; ++step) {
      wait_for(&shared.empty[place.stage], place.parity ^ 1);  // the first round finds every stage empty
      std::uint8_t* to = ring + place.stage * kStageBytes;
      std::uint64_t* full = &shared.full[place.stage];
      const std::int32_t byte = step * kHopperStepBytes;
      arrive_expecting(full, kStageBytes);
      copy_box(to, weights, byte, latent, full);
      to += kLatentBytes;
      if constexpr (kCluster == 1) {
        copy_box(to, tokens, byte, token, full);
        copy_box(to + kBoxBytes, tokens, byte, token + kBoxRows, full);
      } else {
        copy_box_to_all(to + rank * kBoxBytes, tokens, byte,
                        token + static_cast<std::int32_t>(rank) * kBoxRows, full, (1 << kCluster) - 1);
      }
      place.next();
    }
  }
}

// One warp group of two: 64 latents of every tile of this block.
template <class Mma, int kCluster>
__device__ void consume(const ScreenArgs& args, const TileSchedule& schedule, const std::uint8_t* ring,
                        Shared& shared) {
  const int group = threadIdx.x / 128 - 1, thread = threadIdx.x % 128;
  const std::uint32_t rank = kCluster == 1 ? 0 : cluster_rank();
  const int steps = static_cast<int>(args.row_bytes / kHopperStepBytes);
  // The consumers of both blocks must be done with a stage: either block's copies write to both. Each warp
  // for itself: a wait for products is over when the warp's own are, those of its group may still read.
  const int lane = thread % 32;
  const auto release = [&](int stage) {
    if (lane < kCluster) arrive_at(&shared.empty[stage], kCluster == 1 ? 0 : lane);
  };
  RingPlace place;
  for (std::uint64_t tile = blockIdx.x / kCluster; tile < schedule.tiles(); tile += gridDim.x / kCluster) {
    const std::uint32_t first = (schedule.latent_tile(tile) * kCluster + rank) * kHopperLatents + group * 64;
    const std::uint32_t token = schedule.token_tile(tile) * kHopperTokens;
    __syncwarp();
    consumers_sync();  // the epilogue before is over
    const int column = threadIdx.x - 128;
    float4 own = __ldg(args.token_bounds + token + column);
    own.w = __ldg(args.lists.threshold + token + column);
    shared.columns[column] = own;
    LatentBound bounds[2];
    std::uint32_t rows[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      rows[half] = first + wgmma_accumulator(thread, 2 * half).row;
      bounds[half] = load_bound(args.bounds, args.first + min(rows[half], args.count - 1));
    }
    consumers_sync();

    typename Mma::Sum sums[128];
    for (int step = 0; step < steps; ++step) {
      wait_for(&shared.full[place.stage], place.parity);
      const std::uint8_t* stage = ring + place.stage * kStageBytes;
      const std::uint64_t a = operand_descriptor(shared_address(stage + group * 64 * kHopperStepBytes)),
                          b = operand_descriptor(shared_address(stage + kLatentBytes));
      hold(sums);
      product_fence();
#pragma unroll
      for (int k = 0; k < kHopperStepBytes / kInstructionBytes; ++k)
        Mma::multiply(sums, a + k * (kInstructionBytes >> 4), b + k * (kInstructionBytes >> 4),
                      step > 0 || k > 0);
      product_commit();
      hold(sums);
      if (step > 0) {
        product_wait<1>();
        release((place.stage + kStages - 1) % kStages);
      }
      place.next();
    }
    product_wait<0>();
    hold(sums);
    release((place.stage + kStages - 1) % kStages);

#pragma unroll
    for (int i = 0; i < 128; ++i) {
      const int half = i / 2 % 2;
      if (rows[half] >= args.count) continue;
      const Place2 at = wgmma_accumulator(thread, i);
      screen_one(args.lists, token + at.column, args.first + rows[half], static_cast<float>(sums[i]),
                 bounds[half], shared.columns[at.column]);
    }
  }
}

#endif

template <class Mma, int kCluster>
__device__ void screen_tiles([[maybe_unused]] const ScreenArgs& args,
                             [[maybe_unused]] const CUtensorMap* weights,
                             [[maybe_unused]] const CUtensorMap* tokens,
                             [[maybe_unused]] std::uint32_t map_first) {
#if defined(PERSONASCOPE_HOPPER)
  std::uint8_t* memory = dynamic_shared<std::uint8_t>();
  std::uint8_t* ring = memory + (1024 - shared_address(memory) % 1024) % 1024;
  Shared& shared = *reinterpret_cast<Shared*>(ring + kStages * kStageBytes);
  const TileSchedule schedule(args.count, args.tokens, kHopperLatents * kCluster, kHopperTokens);
  if (threadIdx.x == 0) {
    prefetch_map(weights);
    prefetch_map(tokens);
    for (int stage = 0; stage < kStages; ++stage) {
      barrier_init(&shared.full[stage], 1);
      barrier_init(&shared.empty[stage], kConsumerWarps * kCluster);
    }
    barrier_init_fence();
  }
  __syncthreads();
  if constexpr (kCluster > 1) cluster_sync();
  if (threadIdx.x < 128) {
    give_registers<40>();
    if (threadIdx.x == 0) produce<kCluster>(args, weights, tokens, map_first, schedule, ring, shared);
  } else {
    take_registers<232>();
    consume<Mma, kCluster>(args, schedule, ring, shared);
  }
  __syncwarp();
  // Nobody leaves while the other block may still write to its memory or arrive at its barriers.
  __syncthreads();
  if constexpr (kCluster > 1) cluster_sync();
#else
  __trap();  // the launcher looks at the device first
#endif
}

struct Bf16Kind {
#if defined(PERSONASCOPE_HOPPER)
  using Mma = Bf16Wgmma;
#else
  using Mma = void;
#endif
};
struct Int8Kind {
#if defined(PERSONASCOPE_HOPPER)
  using Mma = Int8Wgmma;
#else
  using Mma = void;
#endif
};

template <class Kind>
__global__ void __launch_bounds__(kThreads, 1)
    screen_hopper_kernel(const ScreenArgs args, const __grid_constant__ CUtensorMap weights,
                         const __grid_constant__ CUtensorMap tokens, std::uint32_t map_first) {
  screen_tiles<typename Kind::Mma, 1>(args, &weights, &tokens, map_first);
}

template <class Kind>
__global__ void __launch_bounds__(kThreads, 1)
    screen_hopper_pair_kernel(const ScreenArgs args, const __grid_constant__ CUtensorMap weights,
                              const __grid_constant__ CUtensorMap tokens, std::uint32_t map_first) {
  screen_tiles<typename Kind::Mma, 2>(args, &weights, &tokens, map_first);
}

CUtensorMap make_map(const std::uint8_t* rows, std::uint64_t count, std::size_t row_bytes, const char* what) {
  using Encode = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                              const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                              CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  // The driver is not linked: it need not be there where the plugin is loaded.
  check_cuda(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
      "looking for cuTensorMapEncodeTiled");
  require(found == cudaDriverEntryPointSuccess && function, ErrorCode::internal,
          "the driver has no cuTensorMapEncodeTiled");
  CUtensorMap map;
  const cuuint64_t extents[2] = {row_bytes, count}, strides[1] = {row_bytes};
  const cuuint32_t box[2] = {kHopperStepBytes, kBoxRows}, steps[2] = {1, 1};
  const CUresult status = reinterpret_cast<Encode>(function)(
      &map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<std::uint8_t*>(rows), extents, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  require(status == CUDA_SUCCESS, ErrorCode::internal,
          std::string("the driver refuses a map of the ") + what + ", " + std::to_string(count) +
              " rows of " + std::to_string(row_bytes) + " bytes: CUresult " + std::to_string(status));
  return map;
}

template <class Kind>
void screen_kind(const ScreenArgs& args, const HopperMaps& maps, std::uint32_t map_first, bool pair,
                 cudaStream_t stream) {
  CUtensorMap weights, tokens;
  std::memcpy(&weights, maps.weights, sizeof weights);
  std::memcpy(&tokens, maps.tokens, sizeof tokens);
  const auto kernel = pair ? screen_hopper_pair_kernel<Kind> : screen_hopper_kernel<Kind>;
  const unsigned cluster = pair ? 2 : 1;
  allow_shared("screen_hopper", kernel, kSharedBytes);
  int device = 0, processors = 0;
  check_cuda(cudaGetDevice(&device), "asking for the current device");
  check_cuda(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, device),
             "asking the device");
  const TileSchedule schedule(args.count, args.tokens, kHopperLatents * cluster, kHopperTokens);
  const std::uint64_t most = static_cast<std::uint64_t>(processors) / cluster;
  const auto blocks = static_cast<unsigned>((schedule.tiles() < most ? schedule.tiles() : most) * cluster);
  launch("screen_hopper", kernel, {blocks, kThreads, kSharedBytes, cluster}, stream, args, weights, tokens,
         map_first);
}

}  // namespace

HopperMaps make_hopper_maps(const std::uint8_t* rows, std::uint64_t latents, const std::uint8_t* token_rows,
                            std::uint32_t padded_tokens, std::size_t row_bytes) {
  static_assert(sizeof(CUtensorMap) == sizeof(HopperMaps::weights));
  const CUtensorMap weights = make_map(rows, latents, row_bytes, "weights");
  const CUtensorMap tokens = make_map(token_rows, padded_tokens, row_bytes, "tokens");
  HopperMaps maps;
  std::memcpy(maps.weights, &weights, sizeof weights);
  std::memcpy(maps.tokens, &tokens, sizeof tokens);
  return maps;
}

void screen_hopper(const ScreenArgs& args, const HopperMaps& maps, std::uint32_t map_first, bool pair,
                   cudaStream_t stream) {
  if (args.precision == DevicePrecision::bf16)
    screen_kind<Bf16Kind>(args, maps, map_first, pair, stream);
  else
    screen_kind<Int8Kind>(args, maps, map_first, pair, stream);
}

}  // namespace personascope::cuda
