// mma.sync for bf16 and int8: both are 32 bytes deep and lay out their operands alike, byte for byte.
#pragma once
#include <cstdint>

#include "cuda/device/ptx.cuh"

namespace personascope::cuda {

struct Bf16Mma {
  using Sum = float;
  template <class... Words>
  __device__ static void multiply(float (&sums)[4], Words... words) {
    mma_bf16(sums, words...);
  }
};
struct Int8Mma {
  using Sum = std::int32_t;
  template <class... Words>
  __device__ static void multiply(std::int32_t (&sums)[4], Words... words) {
    mma_int8(sums, words...);
  }
};

// 64 bytes of k (see tiles.h): the chunks of rows g and g + 8 of A, and of column g of B.
template <class Mma>
__device__ inline void multiply_step(typename Mma::Sum (&sums)[4], const uint4& low, const uint4& high,
                                     const uint4& column) {
  Mma::multiply(sums, low.x, high.x, low.y, high.y, column.x, column.y);
  Mma::multiply(sums, low.z, high.z, low.w, high.w, column.z, column.w);
}

}  // namespace personascope::cuda
