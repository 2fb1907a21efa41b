// Resampled sums with AVX2; the body is resample.inl.
#include "native/kernels/latent_stats/resample.h"

#include "native/kernels/simd/target_avx2.h"

namespace personascope {
namespace {

using Doubles = __m256d;
constexpr std::size_t kWidth = 4;

inline Doubles d_zero() {
  return _mm256_setzero_pd();
}
inline Doubles d_set(double x) {
  return _mm256_set1_pd(x);
}
inline Doubles d_load_counts(const std::uint16_t* counts) {
  return _mm256_cvtepi32_pd(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(counts))));
}
inline Doubles d_add(Doubles a, Doubles b) {
  return _mm256_add_pd(a, b);
}
inline Doubles d_mul(Doubles a, Doubles b) {
  return _mm256_mul_pd(a, b);
}
inline void d_store(double* p, Doubles v) {
  _mm256_storeu_pd(p, v);
}

}  // namespace
}  // namespace personascope

#include "native/kernels/latent_stats/resample.inl"

namespace personascope {

void resample_avx2(const ResampleArgs& args) {
  resample(args);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
