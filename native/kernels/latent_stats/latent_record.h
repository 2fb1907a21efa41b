// What is gathered of one latent, in one cache line: a code costs one line read and written.
//
// The exact sums (exact_sum.h) are kept as digits of 38 bits in words of 64. A value that fits the window is
// below 2^76 of the sum's units, its square below 2^152: two digits and four. Adding one needs no carry from
// word to word, so all words are added to at once; settled() carries, at the latest after kMostUnsettled.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

#include "native/kernels/latent_stats/exact_sum.h"

namespace personascope {

struct alignas(64) LatentRecord {
  static constexpr unsigned kDigit = 38;
  static constexpr std::size_t kSumDigits = 2, kSquaresDigits = 4;
  // Codes that one latent may take between two carries: each adds less than 2^38 to a word, and carrying
  // leaves less than 2^62 in it.
  static constexpr std::uint64_t kMostUnsettled = std::uint64_t{1} << 25;
  // Codes that one latent may take in all.
  static constexpr std::uint64_t kMostCodes = std::uint64_t{1} << 40;

  std::array<std::uint64_t, kSumDigits> sum{};
  std::array<std::uint64_t, kSquaresDigits> squares{};
  std::uint64_t active = 0;  // rows
  float max = 0;             // 0 if never active
  // What the last digits could not hold: of 2^100 units of the sum, of 2^176 of the squares.
  std::uint16_t sum_carry = 0, squares_carry = 0;

  LatentTotals totals() const;
  // active <= kMostCodes, and totals are of that many values that fit.
  void set_totals(const LatentTotals& totals);
  void settle() { set_totals(totals()); }
};
static_assert(sizeof(LatentRecord) == 64);

}  // namespace personascope
