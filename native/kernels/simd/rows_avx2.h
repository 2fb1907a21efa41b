// Eight values of a row of weights, widened exactly. The same names as in rows_avx512.h. Include after
// lanes_avx2.h.
#pragma once
#include <cstdint>

namespace personascope {
namespace {

// The first n of eight 16-bit values; AVX2 has no masked load of them.
inline __m128i first_halves(const char* p, std::size_t n) {
  alignas(16) char bytes[16] = {};
  for (std::size_t i = 0; i < 2 * n; ++i) bytes[i] = p[i];
  return _mm_load_si128(reinterpret_cast<const __m128i*>(bytes));
}

// How an element of a row lies in memory, at any address.
struct F32Row {
  static constexpr std::size_t kBytes = 4;
  static Vec load(const char* p) { return _mm256_loadu_ps(reinterpret_cast<const float*>(p)); }
  static Vec load(const char* p, std::size_t n) {
    return _mm256_maskload_ps(reinterpret_cast<const float*>(p), v_first(n));
  }
};
struct Bf16Row {
  static constexpr std::size_t kBytes = 2;
  static Vec widen(__m128i bits) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  static Vec load(const char* p) { return widen(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static Vec load(const char* p, std::size_t n) { return widen(first_halves(p, n)); }
};
struct F16Row {
  static constexpr std::size_t kBytes = 2;
  static Vec load(const char* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Vec load(const char* p, std::size_t n) { return _mm256_cvtph_ps(first_halves(p, n)); }
};

}  // namespace
}  // namespace personascope
