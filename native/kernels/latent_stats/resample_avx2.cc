// Resampled sums with AVX2: 32 sums in registers while all entries pass.
#include "native/kernels/latent_stats/resample.h"

#include "native/kernels/simd/target_avx2.h"

namespace personascope {

void resample_avx2(const ResampleArgs& args) {
  constexpr int kVectors = 8, kWidth = 4;
  for (std::size_t r = 0; r < args.resamples; r += kVectors * kWidth) {
    __m256d sums[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sums[v] = _mm256_setzero_pd();
    for (std::size_t e = 0; e < args.entries; ++e) {
      const std::uint16_t* counts = args.counts[e] + r;
      const __m256d sum = _mm256_set1_pd(args.sums[e]);
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const __m128i drawn =
            _mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(counts + v * kWidth)));
        sums[v] = _mm256_add_pd(sums[v], _mm256_mul_pd(_mm256_cvtepi32_pd(drawn), sum));
      }
    }
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) _mm256_storeu_pd(args.out + r + v * kWidth, sums[v]);
  }
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
