// Eight fp32 lanes. The same names as in lanes_avx512.h, so that one body (simd.inl) serves both; everything
// has internal linkage. Include after target_avx2.h.
#pragma once
#include <cstddef>

namespace personascope {
namespace {

using Vec = __m256;
using Mask = __m256i;  // all bits of a lane
constexpr std::size_t kLanes = 8;

inline Vec v_zero() {
  return _mm256_setzero_ps();
}
inline Vec v_set(float x) {
  return _mm256_set1_ps(x);
}
inline Vec v_load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline void v_store(float* p, Vec v) {
  _mm256_storeu_ps(p, v);
}
// The first n lanes, n <= kLanes.
inline Mask v_first(std::size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Vec v_load(const float* p, Mask m) {
  return _mm256_maskload_ps(p, m);
}
inline void v_store(float* p, Vec v, Mask m) {
  _mm256_maskstore_ps(p, m, v);
}
// Sixteen-bit floats, widened exactly; no alignment needed beyond the element's.
inline Vec v_load_bf16(const void* p) {
  const __m128i bits = _mm_loadu_si128(static_cast<const __m128i*>(p));
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}
inline Vec v_load_f16(const void* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
// Whole numbers in [-128, 127] as bytes.
inline void v_store_int8(void* p, Vec v) {
  const __m256i whole = _mm256_cvtps_epi32(v);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(static_cast<__m128i*>(p), _mm_packs_epi16(words, words));
}
// Finite values rounded to bf16, to the nearest, ties to even; returns them widened again.
inline Vec v_store_bf16(void* p, Vec v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i high =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  _mm_storeu_si128(static_cast<__m128i*>(p), words);
  return _mm256_castsi256_ps(_mm256_slli_epi32(high, 16));
}
inline Vec v_add(Vec a, Vec b) {
  return _mm256_add_ps(a, b);
}
inline Vec v_sub(Vec a, Vec b) {
  return _mm256_sub_ps(a, b);
}
inline Vec v_mul(Vec a, Vec b) {
  return _mm256_mul_ps(a, b);
}
inline Vec v_div(Vec a, Vec b) {
  return _mm256_div_ps(a, b);
}
inline Vec v_sqrt(Vec a) {
  return _mm256_sqrt_ps(a);
}
inline Vec v_fma(Vec a, Vec b, Vec c) {  // a b + c
  return _mm256_fmadd_ps(a, b, c);
}
inline Vec v_fnma(Vec a, Vec b, Vec c) {  // c - a b
  return _mm256_fnmadd_ps(a, b, c);
}
// The second operand where one is NaN, as the instructions have it.
inline Vec v_max(Vec a, Vec b) {
  return _mm256_max_ps(a, b);
}
inline Vec v_min(Vec a, Vec b) {
  return _mm256_min_ps(a, b);
}
inline Vec v_abs(Vec a) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a);
}
inline Mask v_less(Vec a, Vec b) {
  return _mm256_castps_si256(_mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
// One bit a lane: a >= b, false where either is NaN.
inline unsigned v_at_least(Vec a, Vec b) {
  return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}
inline Vec v_select(Mask m, Vec yes, Vec no) {
  return _mm256_blendv_ps(no, yes, _mm256_castsi256_ps(m));
}
inline Vec v_round(Vec a) {  // to nearest, ties to even
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a 2^n for a whole n in [-300, 300]; gradual underflow, overflow to infinity. In three steps, as the
// exponent of a float holds only [-126, 127].
inline Vec v_scale(Vec a, Vec n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i third = _mm256_srai_epi32(_mm256_mullo_epi32(whole, _mm256_set1_epi32(21846)), 16);
  const __m256i rest = _mm256_sub_epi32(whole, _mm256_add_epi32(third, third));
  const __m256i bias = _mm256_set1_epi32(127);
  const Vec p = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(third, bias), 23));
  const Vec q = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return _mm256_mul_ps(_mm256_mul_ps(_mm256_mul_ps(a, p), p), q);
}
// Lanes are added in a tree: halves, quarters, pairs.
inline float v_sum(Vec v) {
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 p = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(p, _mm_movehdup_ps(p)));
}
inline float v_max_lane(Vec v) {
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 p = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(p, _mm_movehdup_ps(p)));
}

// Running sums in double of what is added as fp32 lanes.
struct VecDouble {
  __m256d low, high;
  VecDouble() : low(_mm256_setzero_pd()), high(_mm256_setzero_pd()) {}
  void add_product(Vec a, Vec b) {
    low = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                          _mm256_cvtps_pd(_mm256_castps256_ps128(b)), low);
    high = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)),
                           _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1)), high);
  }
  double sum() const {
    const __m256d v = _mm256_add_pd(low, high);
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
  }
};

}  // namespace
}  // namespace personascope
