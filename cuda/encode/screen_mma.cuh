// mma.sync for bf16 and int8: both are 32 bytes deep and lay out their operands alike, byte for byte.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace personascope::cuda {

struct Bf16Mma {
  using Sum = float;
  // sums += A (rows g, g + 8; words a0, a2 and a1, a3) * B (words b0, b1)
  __device__ static void multiply(float (&sums)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                  std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
};

struct Int8Mma {
  using Sum = std::int32_t;
  __device__ static void multiply(std::int32_t (&sums)[4], std::uint32_t a0, std::uint32_t a1,
                                  std::uint32_t a2, std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
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
