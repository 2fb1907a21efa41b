// AVX2: 6 x 2 vectors of C in registers (12 accumulators of 16 registers).
#include "native/kernels/gemm/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

namespace personascope {
namespace {

// packed[p * step + i] = a[i * lda + p] for i < rows <= 16 and p < k, k whole eights; returns how many p it
// did.
std::size_t transpose_rows(const float* a, std::size_t lda, std::size_t rows, std::size_t k, float* packed,
                           std::size_t step) {
  std::size_t p = 0;
  for (; p + 8 <= k; p += 8)
    for (std::size_t i0 = 0; i0 < rows; i0 += 8) {
      const std::size_t count = rows - i0 < 8 ? rows - i0 : 8;
      const Mask mask = v_first(count);
      __m256 r[8], t[8];
#pragma GCC unroll 8
      for (std::size_t i = 0; i < 8; ++i) r[i] = v_load(a + (i0 + (i < count ? i : count - 1)) * lda + p);
#pragma GCC unroll 4
      for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
      }
#pragma GCC unroll 2
      for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
      }
#pragma GCC unroll 4
      for (int c = 0; c < 4; ++c) {
        t[c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x20);
        t[4 + c] = _mm256_permute2f128_ps(r[c], r[4 + c], 0x31);
      }
#pragma GCC unroll 8
      for (std::size_t i = 0; i < 8; ++i) v_store(packed + (p + i) * step + i0, t[i], mask);
    }
  return p;
}

}  // namespace
}  // namespace personascope

#include "native/kernels/gemm/simd.inl"

namespace personascope {
namespace {

void tile(std::size_t rows, std::size_t n, std::size_t k, const float* a, std::size_t a_step,
          const float* panels, std::size_t panel_stride, std::size_t panel_step, float* c, std::size_t ldc,
          float alpha, const float* bias, bool accumulate) {
  switch (rows) {
#define PERSONASCOPE_CASE(R, V)                                                                          \
  case R:                                                                                                \
    tile_rows<R, V>(n, k, a, a_step, panels, panel_stride, panel_step, c, ldc, alpha, bias, accumulate); \
    break;
    PERSONASCOPE_CASE(1, 8)
    PERSONASCOPE_CASE(2, 4)
    PERSONASCOPE_CASE(3, 4)
    PERSONASCOPE_CASE(4, 2)
    PERSONASCOPE_CASE(5, 2)
    PERSONASCOPE_CASE(6, 2)
#undef PERSONASCOPE_CASE
  }
}

}  // namespace

const GemmKernels gemm_avx2 = {6, 16, pack_b, pack_a, tile, block_column_sums};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
