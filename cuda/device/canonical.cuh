// Canonical products by octets of lanes (shared/canonical.h).
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/device/block.cuh"
#include "cuda/device/rows.cuh"
#include "cuda/shared/canonical.h"

namespace personascope::cuda {

// row: [width] of the reader's type, zeros up to a multiple of 64; token: fp32, likewise. Every lane of the
// warp takes part; each octet has its own row and token, and each of its lanes gets the product.
template <class Reader>
__device__ inline float canonical_product(const std::uint8_t* row, const float* token, std::size_t padded) {
  const int octet_lane = threadIdx.x % kCanonicalLanes;
  CanonicalLane lane;
#pragma unroll 4
  for (std::size_t group = octet_lane; group < padded / kLaneSums; group += kCanonicalLanes) {
    float weights[kLaneSums];
    Reader::eight(row, group, weights);
    lane.add(weights, token + group * kLaneSums);
  }
#pragma unroll
  for (int step = kCanonicalLanes / 2; step > 0; step /= 2) {
    float other[kLaneSums];
#pragma unroll
    for (int i = 0; i < kLaneSums; ++i) other[i] = __shfl_xor_sync(kWholeWarp, lane.sums[i], step);
    lane.merge(other);
  }
  return lane.total();
}

}  // namespace personascope::cuda
