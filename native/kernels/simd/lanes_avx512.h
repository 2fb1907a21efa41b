// Sixteen fp32 lanes. The same names as in lanes_avx2.h, so that one body (simd.inl) serves both; everything
// has internal linkage. Include after target_avx512.h.
#pragma once
#include <cstddef>

namespace personascope {
namespace {

using Vec = __m512;
using Mask = __mmask16;
constexpr std::size_t kLanes = 16;

inline Vec v_zero() {
  return _mm512_setzero_ps();
}
inline Vec v_set(float x) {
  return _mm512_set1_ps(x);
}
inline Vec v_load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline void v_store(float* p, Vec v) {
  _mm512_storeu_ps(p, v);
}
// The first n lanes, n <= kLanes.
inline Mask v_first(std::size_t n) {
  return static_cast<Mask>((1u << n) - 1u);
}
inline Vec v_load(const float* p, Mask m) {
  return _mm512_maskz_loadu_ps(m, p);
}
inline void v_store(float* p, Vec v, Mask m) {
  _mm512_mask_storeu_ps(p, m, v);
}
// Sixteen-bit floats, widened exactly; no alignment needed beyond the element's.
inline Vec v_load_bf16(const void* p) {
  const __m256i bits = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
inline Vec v_load_f16(const void* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
// Whole numbers in [-128, 127] as bytes.
inline void v_store_int8(void* p, Vec v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}
// Finite values rounded to bf16, to the nearest, ties to even; returns them widened again.
inline Vec v_store_bf16(void* p, Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i high =
      _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(high));
  return _mm512_castsi512_ps(_mm512_slli_epi32(high, 16));
}
inline Vec v_add(Vec a, Vec b) {
  return _mm512_add_ps(a, b);
}
inline Vec v_sub(Vec a, Vec b) {
  return _mm512_sub_ps(a, b);
}
inline Vec v_mul(Vec a, Vec b) {
  return _mm512_mul_ps(a, b);
}
inline Vec v_div(Vec a, Vec b) {
  return _mm512_div_ps(a, b);
}
inline Vec v_sqrt(Vec a) {
  return _mm512_sqrt_ps(a);
}
inline Vec v_fma(Vec a, Vec b, Vec c) {  // a b + c
  return _mm512_fmadd_ps(a, b, c);
}
inline Vec v_fnma(Vec a, Vec b, Vec c) {  // c - a b
  return _mm512_fnmadd_ps(a, b, c);
}
// The second operand where one is NaN, as the instructions have it.
inline Vec v_max(Vec a, Vec b) {
  return _mm512_max_ps(a, b);
}
inline Vec v_min(Vec a, Vec b) {
  return _mm512_min_ps(a, b);
}
inline Vec v_abs(Vec a) {
  return _mm512_abs_ps(a);
}
inline Mask v_less(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
// One bit a lane: a >= b, false where either is NaN.
inline unsigned v_at_least(Vec a, Vec b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}
inline Vec v_select(Mask m, Vec yes, Vec no) {
  return _mm512_mask_blend_ps(m, no, yes);
}
inline Vec v_round(Vec a) {  // to nearest, ties to even
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a 2^n for a whole n in [-300, 300]; gradual underflow, overflow to infinity.
inline Vec v_scale(Vec a, Vec n) {
  return _mm512_scalef_ps(a, n);
}
// Lanes are added in a tree: halves, quarters, pairs.
inline float v_sum(Vec v) {
  const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 p = _mm_add_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_add_ss(p, _mm_movehdup_ps(p)));
}
inline float v_max_lane(Vec v) {
  const __m256 h = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
  const __m128 p = _mm_max_ps(q, _mm_movehl_ps(q, q));
  return _mm_cvtss_f32(_mm_max_ss(p, _mm_movehdup_ps(p)));
}

// Running sums in double of what is added as fp32 lanes.
struct VecDouble {
  __m512d low, high;
  VecDouble() : low(_mm512_setzero_pd()), high(_mm512_setzero_pd()) {}
  void add_product(Vec a, Vec b) {
    low = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_castps512_ps256(a)),
                          _mm512_cvtps_pd(_mm512_castps512_ps256(b)), low);
    high = _mm512_fmadd_pd(_mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1)),
                           _mm512_cvtps_pd(_mm512_extractf32x8_ps(b, 1)), high);
  }
  double sum() const {
    const __m512d v = _mm512_add_pd(low, high);
    const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
  }
};

}  // namespace
}  // namespace personascope
