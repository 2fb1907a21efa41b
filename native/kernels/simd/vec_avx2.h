// Eight fp32 lanes, AVX2 + FMA. Switches the rest of the file to that instruction set: include it after
// everything else but the .inl body. The same names as in vec_avx512.h; everything has internal linkage.
#pragma once
#include <immintrin.h>

#include <cstddef>

#pragma GCC target("avx2,fma,f16c")

namespace personascope {
namespace {
namespace vec {

using F = __m256;
using Mask = unsigned;  // one bit a lane
constexpr std::size_t kLanes = 8;
constexpr int kRegisters = 16;

inline F zero() {
  return _mm256_setzero_ps();
}
inline F set1(float x) {
  return _mm256_set1_ps(x);
}
inline F load(const float* p) {
  return _mm256_loadu_ps(p);
}
inline __m256i first(std::size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n < kLanes ? n : kLanes)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F load_n(const float* p, std::size_t n) {
  return _mm256_maskload_ps(p, first(n));
}
inline void store(float* p, F v) {
  _mm256_storeu_ps(p, v);
}
inline void store_n(float* p, F v, std::size_t n) {
  _mm256_maskstore_ps(p, first(n), v);
}
inline F add(F a, F b) {
  return _mm256_add_ps(a, b);
}
inline F sub(F a, F b) {
  return _mm256_sub_ps(a, b);
}
inline F mul(F a, F b) {
  return _mm256_mul_ps(a, b);
}
inline F fmadd(F a, F b, F c) {
  return _mm256_fmadd_ps(a, b, c);
}
inline F fnmadd(F a, F b, F c) {  // c - a b
  return _mm256_fnmadd_ps(a, b, c);
}
inline F div(F a, F b) {
  return _mm256_div_ps(a, b);
}
inline F sqrt(F a) {
  return _mm256_sqrt_ps(a);
}
inline F max(F a, F b) {
  return _mm256_max_ps(a, b);
}
inline F min(F a, F b) {
  return _mm256_min_ps(a, b);
}
inline Mask at_least(F a, F b) {
  return static_cast<Mask>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GE_OQ)));
}

// Sum of squares in double.
struct Squares {
  __m256d low, high;
  Squares() : low(_mm256_setzero_pd()), high(_mm256_setzero_pd()) {}
  void add(F v) {
    const __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v)),
                  b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
    low = _mm256_fmadd_pd(a, a, low);
    high = _mm256_fmadd_pd(b, b, high);
  }
  double sum() const {
    const __m256d v = _mm256_add_pd(low, high);
    const __m128d q = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
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
    const F a = vec::add(vec::add(part[0], part[4]), vec::add(part[2], part[6]));
    const F b = vec::add(vec::add(part[1], part[5]), vec::add(part[3], part[7]));
    const F s = vec::add(a, b);
    const __m128 q = _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
    const __m128 p = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(p, _mm_movehdup_ps(p)));
  }
};

}  // namespace vec
}  // namespace
}  // namespace personascope
