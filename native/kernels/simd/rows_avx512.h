// Sixteen values of a row of weights, widened exactly. The same names as in rows_avx2.h. Include after
// lanes_avx512.h.
#pragma once
#include <cstdint>

namespace personascope {
namespace {

// How an element of a row lies in memory, at any address.
struct F32Row {
  static constexpr std::size_t kBytes = 4;
  static Vec load(const char* p) { return _mm512_loadu_ps(p); }
  static Vec load(const char* p, std::size_t n) { return _mm512_maskz_loadu_ps(v_first(n), p); }
};
struct Bf16Row {
  static constexpr std::size_t kBytes = 2;
  static Vec widen(__m256i bits) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  static Vec load(const char* p) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static Vec load(const char* p, std::size_t n) { return widen(_mm256_maskz_loadu_epi16(v_first(n), p)); }
};
struct F16Row {
  static constexpr std::size_t kBytes = 2;
  static Vec load(const char* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static Vec load(const char* p, std::size_t n) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(v_first(n), p));
  }
};

}  // namespace
}  // namespace personascope
