// Adding codes with AVX2: a record is two registers. Words of the first: two digits of the sum and two of the
// squares; of the second: two of the squares, the count, and the maximum below the carries.
#include "native/kernels/latent_stats/accumulate.h"

#include "native/kernels/simd/target_avx2.h"

namespace personascope {
namespace {

struct Half {
  __m256i begin;    // see accumulate_avx512.cc
  __m256i digit;    // the bits of a digit, nothing in other words
  __m256i squares;  // all ones in the words of squares
};

inline __m256i digits(__m256i exponent, __m256i mantissa, __m256i square, const Half& half) {
  const __m256i shift = _mm256_add_epi64(exponent, _mm256_and_si256(exponent, half.squares));
  const __m256i term = _mm256_blendv_epi8(mantissa, square, half.squares);
  const __m256i up = _mm256_sllv_epi64(term, _mm256_sub_epi64(shift, half.begin));
  const __m256i down = _mm256_srlv_epi64(term, _mm256_sub_epi64(half.begin, shift));
  return _mm256_and_si256(_mm256_or_si256(up, down), half.digit);
}

}  // namespace

void accumulate_avx2(const AccumulateArgs& args) {
  constexpr long long kDigit = (1ll << LatentRecord::kDigit) - 1;
  const Half first = {_mm256_setr_epi64x(100, 100 + 38, 200, 200 + 38), _mm256_set1_epi64x(kDigit),
                      _mm256_setr_epi64x(0, 0, -1, -1)};
  const Half second = {_mm256_setr_epi64x(200 + 76, 200 + 114, 0, 0),
                       _mm256_setr_epi64x(kDigit, kDigit, 0, 0), _mm256_setr_epi64x(-1, -1, 0, 0)};
  const __m256i one = _mm256_setr_epi64x(0, 0, 1, 0);
  const __m256i fraction = _mm256_set1_epi64x(0x7fffff), leading = _mm256_set1_epi64x(0x800000);
  const AccumulateArgs own = args;  // stores do not change it
  for (std::size_t i = 0; i < own.count; ++i) {
    ask_ahead(own, i);
    unsigned word;
    __builtin_memcpy(&word, own.values + i, 4);
    const __m256i bits = _mm256_set1_epi64x(word);
    const __m256i exponent = _mm256_srli_epi64(bits, 23);
    const __m256i mantissa = _mm256_or_si256(_mm256_and_si256(bits, fraction), leading);
    const __m256i square = _mm256_mul_epu32(mantissa, mantissa);
    __m256i* record = reinterpret_cast<__m256i*>(own.records + own.latents[i]);
    const __m256i low =
        _mm256_add_epi64(_mm256_load_si256(record), digits(exponent, mantissa, square, first));
    const __m256i high = _mm256_add_epi64(_mm256_add_epi64(_mm256_load_si256(record + 1), one),
                                          digits(exponent, mantissa, square, second));
    _mm256_store_si256(record, low);
    _mm256_store_si256(record + 1, _mm256_blend_epi32(high, _mm256_max_epu32(high, bits), 1 << 6));
  }
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
