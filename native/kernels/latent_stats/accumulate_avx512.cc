// Adding codes with AVX-512: a record is one register. Its words from the lowest: two digits of the sum, four
// of the squares, the count, and the maximum below the carries.
#include "native/kernels/latent_stats/accumulate.h"

#include "native/kernels/simd/target_avx512.h"

namespace personascope {
namespace {

constexpr __mmask8 kSquares = 0x3C;
constexpr __mmask16 kMax = 1 << 14;  // of 32-bit words

struct Constants {
  // Where each digit begins, counted from the biased exponent of a value that lies at bit 0 (twice, of
  // squares).
  __m512i begin;
  __m512i digit;  // the bits of a digit, nothing in other words
  __m512i one;    // for the count
  __m512i fraction, leading;
};

inline void add(LatentRecord* record, const float* value, const Constants& constants) {
  int word;
  __builtin_memcpy(&word, value, 4);
  const __m512i bits = _mm512_maskz_set1_epi32(0x5555, word);  // zeros above it in each lane
  const __m512i exponent = _mm512_srli_epi64(bits, 23);
  const __m512i shift = _mm512_mask_add_epi64(exponent, kSquares, exponent, exponent);
  const __m512i mantissa = _mm512_ternarylogic_epi64(bits, constants.fraction, constants.leading, 0xEA);
  const __m512i term = _mm512_mask_mul_epu32(mantissa, kSquares, mantissa, mantissa);
  // Shifts by less than nothing or more than 63 give 0: one of the two is the digit, or both are.
  const __m512i up = _mm512_sllv_epi64(term, _mm512_sub_epi64(shift, constants.begin));
  const __m512i down = _mm512_srlv_epi64(term, _mm512_sub_epi64(constants.begin, shift));
  const __m512i digits = _mm512_ternarylogic_epi64(up, down, constants.digit, 0xA8);  // (up | down) & digit
  const __m512i before = _mm512_load_si512(record);
  const __m512i sums = _mm512_add_epi64(_mm512_add_epi64(before, constants.one), digits);
  _mm512_store_si512(record, _mm512_mask_max_epu32(sums, kMax, sums, bits));
}

}  // namespace

void accumulate_avx512(const AccumulateArgs& args) {
  const Constants constants = {_mm512_setr_epi64(100, 100 + 38, 200, 200 + 38, 200 + 76, 200 + 114, 0, 0),
                               _mm512_maskz_set1_epi64(0x3F, (1ll << LatentRecord::kDigit) - 1),
                               _mm512_maskz_set1_epi64(0x40, 1), _mm512_set1_epi64(0x7fffff),
                               _mm512_set1_epi64(0x800000)};
  const AccumulateArgs own = args;  // stores do not change it
  for (std::size_t i = 0; i < own.count; ++i) {
    ask_ahead(own, i);
    add(own.records + own.latents[i], own.values + i, constants);
  }
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
