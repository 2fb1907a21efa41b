// Resampled sums with AVX-512: 64 sums in registers while all entries pass.
#include "native/kernels/latent_stats/resample.h"

#include "native/kernels/simd/target_avx512.h"

namespace personascope {

void resample_avx512(const ResampleArgs& args) {
  constexpr int kVectors = 8, kWidth = 8;
  for (std::size_t r = 0; r < args.resamples; r += kVectors * kWidth) {
    __m512d sums[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[v] = _mm512_setzero_pd();
    for (std::size_t e = 0; e < args.entries; ++e) {
      const std::uint16_t* counts = args.counts[e] + r;
      const __m512d sum = _mm512_set1_pd(args.sums[e]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const __m256i drawn =
            _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(counts + v * kWidth)));
        sums[v] = _mm512_add_pd(sums[v], _mm512_mul_pd(_mm512_cvtepi32_pd(drawn), sum));
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) _mm512_storeu_pd(args.out + r + v * kWidth, sums[v]);
  }
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
