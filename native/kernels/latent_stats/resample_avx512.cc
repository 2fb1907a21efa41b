// Resampled sums with AVX-512; the body is resample.inl.
#include "native/kernels/latent_stats/resample.h"

#include "native/kernels/simd/target_avx512.h"

namespace personascope {
namespace {

using Doubles = __m512d;
constexpr std::size_t kWidth = 8;

inline Doubles d_zero() {
  return _mm512_setzero_pd();
}
inline Doubles d_set(double x) {
  return _mm512_set1_pd(x);
}
inline Doubles d_load_counts(const std::uint16_t* counts) {
  return _mm512_cvtepi32_pd(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(counts))));
}
inline Doubles d_add(Doubles a, Doubles b) {
  return _mm512_add_pd(a, b);
}
inline Doubles d_mul(Doubles a, Doubles b) {
  return _mm512_mul_pd(a, b);
}
inline void d_store(double* p, Doubles v) {
  _mm512_storeu_pd(p, v);
}

}  // namespace
}  // namespace personascope

#include "native/kernels/latent_stats/resample.inl"

namespace personascope {

void resample_avx512(const ResampleArgs& args) {
  resample(args);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
