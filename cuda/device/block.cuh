// Sums, maxima and prefix sums over a warp or a block, in an order that is always the same.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace personascope::cuda {

constexpr unsigned kWholeWarp = 0xffffffffu;

template <class T, class Op>
__device__ inline T warp_reduce(T value, const Op& op) {
  for (int step = 16; step > 0; step /= 2) value = op(value, __shfl_xor_sync(kWholeWarp, value, step));
  return value;
}

struct Plus {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

// Every thread gets the result. scratch: one place a warp, shared memory.
template <int kThreads, class T, class Op>
__device__ inline T block_reduce(T value, T* scratch, const Op& op) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  value = warp_reduce(value, op);
  __syncthreads();
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  T result = scratch[0];
  for (int i = 1; i < kThreads / 32; ++i) result = op(result, scratch[i]);
  return result;
}

// How many of the threads before this one, and of all, say yes. scratch: one place a warp.
struct Rank {
  std::uint32_t before, all;
};
template <int kThreads>
__device__ inline Rank block_rank(bool yes, std::uint32_t* scratch) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const unsigned votes = __ballot_sync(kWholeWarp, yes);
  __syncthreads();
  if (lane == 0) scratch[warp] = __popc(votes);
  __syncthreads();
  Rank rank = {static_cast<std::uint32_t>(__popc(votes & ((1u << lane) - 1))), 0};
  for (int i = 0; i < kThreads / 32; ++i) {
    const std::uint32_t count = scratch[i];
    if (i < warp) rank.before += count;
    rank.all += count;
  }
  return rank;
}

}  // namespace personascope::cuda
