// Sixteen fp32 lanes, AVX-512. Switches the rest of the file to that instruction set: include it after
// everything else but the .inl body. The same names as in vec_avx2.h; everything has internal linkage.
#pragma once
// GCC 12 warns of its own _mm512_undefined_* (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstddef>

#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")

namespace personascope {
namespace {
namespace vec {

using F = __m512;
using Mask = unsigned;  // one bit a lane
constexpr std::size_t kLanes = 16;
constexpr int kRegisters = 32;

inline F zero() {
  return _mm512_setzero_ps();
}
inline F set1(float x) {
  return _mm512_set1_ps(x);
}
inline F load(const float* p) {
  return _mm512_loadu_ps(p);
}
inline __mmask16 first(std::size_t n) {
  return n >= kLanes ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << n) - 1u);
}
inline F load_n(const float* p, std::size_t n) {
  return _mm512_maskz_loadu_ps(first(n), p);
}
inline void store(float* p, F v) {
  _mm512_storeu_ps(p, v);
}
inline void store_n(float* p, F v, std::size_t n) {
  _mm512_mask_storeu_ps(p, first(n), v);
}
inline F add(F a, F b) {
  return _mm512_add_ps(a, b);
}
inline F sub(F a, F b) {
  return _mm512_sub_ps(a, b);
}
inline F mul(F a, F b) {
  return _mm512_mul_ps(a, b);
}
inline F fmadd(F a, F b, F c) {
  return _mm512_fmadd_ps(a, b, c);
}
inline F fnmadd(F a, F b, F c) {  // c - a b
  return _mm512_fnmadd_ps(a, b, c);
}
inline F div(F a, F b) {
  return _mm512_div_ps(a, b);
}
inline F sqrt(F a) {
  return _mm512_sqrt_ps(a);
}
inline F max(F a, F b) {
  return _mm512_max_ps(a, b);
}
inline F min(F a, F b) {
  return _mm512_min_ps(a, b);
}
inline Mask at_least(F a, F b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ);
}

// Sum of squares in double.
struct Squares {
  __m512d low, high;
  Squares() : low(_mm512_setzero_pd()), high(_mm512_setzero_pd()) {}
  void add(F v) {
    const __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v)),
                  b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    low = _mm512_fmadd_pd(a, a, low);
    high = _mm512_fmadd_pd(b, b, high);
  }
  double sum() const {
    const __m512d v = _mm512_add_pd(low, high);
    const __m256d h = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(h), _mm256_extractf128_pd(h, 1));
    return _mm_cvtsd_f64(_mm_add_sd(q, _mm_unpackhi_pd(q, q)));
  }
};

// 64 sums side by side, added by the tree i + (i + 32), + 16, + 8, + 4, + 2, + 1.
struct Sum64 {
  static constexpr std::size_t kParts = 64 / kLanes;
  F part[kParts];
  Sum64() {
    for (F& p : part) p = zero();
  }
  float total() const {
    const F s = vec::add(vec::add(part[0], part[2]), vec::add(part[1], part[3]));
    const __m256 h = _mm256_add_ps(_mm512_castps512_ps256(s), _mm512_extractf32x8_ps(s, 1));
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    const __m128 p = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(p, _mm_movehdup_ps(p)));
  }
};

}  // namespace vec
}  // namespace
}  // namespace personascope
