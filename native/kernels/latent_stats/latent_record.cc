#include "native/kernels/latent_stats/latent_record.h"

namespace personascope {

namespace {

constexpr unsigned kLastDigit = 62;  // bits of the last digit once it is settled

// Bits [first, first + width) of a number, width < 64.
std::uint64_t bits(const std::uint64_t* limbs, std::size_t count, unsigned first, unsigned width) {
  const std::size_t at = first / 64;
  unsigned __int128 two = limbs[at];
  if (at + 1 < count) two |= static_cast<unsigned __int128>(limbs[at + 1]) << 64;
  return static_cast<std::uint64_t>(two >> (first % 64)) & ((std::uint64_t{1} << width) - 1);
}

template <std::size_t Digits, std::size_t Limbs>
void to_limbs(const std::array<std::uint64_t, Digits>& digits, std::uint16_t carry,
              std::array<std::uint64_t, Limbs>& limbs) {
  for (unsigned i = 0; i < Digits; ++i) add_shifted(limbs.data(), Limbs, digits[i], i * LatentRecord::kDigit);
  add_shifted(limbs.data(), Limbs, carry, (Digits - 1) * LatentRecord::kDigit + kLastDigit);
}

template <std::size_t Digits, std::size_t Limbs>
std::uint16_t to_digits(const std::array<std::uint64_t, Limbs>& limbs,
                        std::array<std::uint64_t, Digits>& digits) {
  for (unsigned i = 0; i < Digits; ++i)
    digits[i] = bits(limbs.data(), Limbs, i * LatentRecord::kDigit,
                     i + 1 < Digits ? LatentRecord::kDigit : kLastDigit);
  return static_cast<std::uint16_t>(
      bits(limbs.data(), Limbs, (Digits - 1) * LatentRecord::kDigit + kLastDigit, 16));
}

}  // namespace

LatentTotals LatentRecord::totals() const {
  LatentTotals totals;
  to_limbs(sum, sum_carry, totals.sum);
  to_limbs(squares, squares_carry, totals.squares);
  return totals;
}

void LatentRecord::set_totals(const LatentTotals& totals) {
  sum_carry = to_digits(totals.sum, sum);
  squares_carry = to_digits(totals.squares, squares);
}

}  // namespace personascope
