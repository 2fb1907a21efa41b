// AVX-512: 14 x 2 vectors of C in registers (28 accumulators, 2 of B, the value of A broadcast from memory),
// so that 28 multiply-adds need 16 loads a step of k. Few rows take more columns instead: a multiply-add has
// four cycles of latency and two start each cycle, so eight accumulators are the least.
#include "native/kernels/gemm/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

namespace personascope {
namespace {

// packed[p * step + i] = a[i * lda + p] for i < rows <= 16 and p < k, k whole sixteens; returns how many p it
// did.
std::size_t transpose_rows(const float* a, std::size_t lda, std::size_t rows, std::size_t k, float* packed,
                           std::size_t step) {
  const Mask mask = v_first(rows);
  // Rows that do not exist are read from the last one, and not stored.
  const float* row[16];
  for (std::size_t i = 0; i < 16; ++i) row[i] = a + (i < rows ? i : rows - 1) * lda;
  std::size_t p = 0;
  for (; p + 16 <= k; p += 16) {
    __m512 r[16], t[16];
#pragma GCC unroll 16
    for (std::size_t i = 0; i < 16; ++i) r[i] = _mm512_loadu_ps(row[i] + p);
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
      r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
      r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
      r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
      r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    }
    // r[4g + c] holds, in its 128-bit lane l, column 4l + c of rows 4g ... 4g + 3.
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      const __m512 ab0 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0x88),
                   ab1 = _mm512_shuffle_f32x4(r[c], r[4 + c], 0xdd);
      const __m512 cd0 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0x88);
      const __m512 cd1 = _mm512_shuffle_f32x4(r[8 + c], r[12 + c], 0xdd);
      t[c] = _mm512_shuffle_f32x4(ab0, cd0, 0x88);
      t[8 + c] = _mm512_shuffle_f32x4(ab0, cd0, 0xdd);
      t[4 + c] = _mm512_shuffle_f32x4(ab1, cd1, 0x88);
      t[12 + c] = _mm512_shuffle_f32x4(ab1, cd1, 0xdd);
    }
#pragma GCC unroll 16
    for (std::size_t i = 0; i < 16; ++i) _mm512_mask_storeu_ps(packed + (p + i) * step, mask, t[i]);
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
    PERSONASCOPE_CASE(2, 8)
    PERSONASCOPE_CASE(3, 8)
    PERSONASCOPE_CASE(4, 4)
    PERSONASCOPE_CASE(5, 4)
    PERSONASCOPE_CASE(6, 4)
    PERSONASCOPE_CASE(7, 2)
    PERSONASCOPE_CASE(8, 2)
    PERSONASCOPE_CASE(9, 2)
    PERSONASCOPE_CASE(10, 2)
    PERSONASCOPE_CASE(11, 2)
    PERSONASCOPE_CASE(12, 2)
    PERSONASCOPE_CASE(13, 2)
    PERSONASCOPE_CASE(14, 2)
#undef PERSONASCOPE_CASE
  }
}

}  // namespace

const GemmKernels gemm_avx512 = {14, 32, pack_b, pack_a, tile, block_column_sums};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
