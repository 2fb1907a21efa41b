// Exact sums on the device: the totals of native/kernels/latent_stats/exact_sum.h, added to by many threads
// at once. A term becomes at most two 64-bit words; each word is added by one atomic operation, and where
// that wraps around, 1 is added to the next word. Additions of integers commute, carries included, so the
// result does not depend on their order.
#pragma once
#include <cmath>
#include <cstdint>

#include "cuda/shared/order.h"
#include "native/core/host_device.h"

namespace personascope::cuda {

constexpr int kSumLimbs = 2, kSquaresLimbs = 3;
constexpr int kSumUnit = -50, kSquaresUnit = -100;  // as LatentTotals

PERSONASCOPE_HOST_DEVICE inline bool fits_totals(float value) {
  return value >= 0x1p-27f && value < 0x1p26f;
}

// limbs += term 2^shift, by fetch_add(word, addend), which returns the word before.
template <class FetchAdd>
PERSONASCOPE_HOST_DEVICE inline void add_exact(std::uint64_t* limbs, int count, std::uint64_t term, int shift,
                                               const FetchAdd& fetch_add) {
  int at = shift / 64;
  const int bit = shift % 64;
  std::uint64_t words[2] = {term << bit, bit ? term >> (64 - bit) : 0};
  std::uint64_t carry = 0;
  for (int i = 0; at < count; ++i, ++at) {
    const std::uint64_t word = i < 2 ? words[i] : 0;
    const std::uint64_t addend = word + carry;  // carry <= 1
    const bool wrapped = addend < word;         // addend is 0 then: the next word gets the 1
    if (addend == 0 && !wrapped) {
      if (i >= 1) return;
      continue;
    }
    const std::uint64_t before = addend ? fetch_add(limbs + at, addend) : 0;
    carry = wrapped || before + addend < addend ? 1 : 0;
    if (i >= 1 && carry == 0) return;
  }
}

// A code's part in a latent's totals. fits_totals(value).
template <class FetchAdd>
PERSONASCOPE_HOST_DEVICE inline void add_to_totals(std::uint64_t* sum, std::uint64_t* squares, float value,
                                                   const FetchAdd& fetch_add) {
  const std::uint32_t bits = float_bits(value);
  const std::uint64_t mantissa = (bits & 0x7fffffu) | 0x800000u;  // the window holds no subnormal number
  const int shift = static_cast<int>(bits >> 23 & 0xff) - 150 - kSumUnit;
  add_exact(sum, kSumLimbs, mantissa, shift, fetch_add);
  add_exact(squares, kSquaresLimbs, mantissa * mantissa, 2 * shift, fetch_add);
}

// The fixed-point number times 2^unit to the nearest double, ties to even; as round_fixed.
PERSONASCOPE_HOST_DEVICE inline double round_totals(const std::uint64_t* limbs, int count, int unit) {
  int top = count - 1;
  while (top >= 0 && limbs[top] == 0) --top;
  if (top < 0) return 0;
  int lead = 63;
  while (!(limbs[top] >> lead & 1)) --lead;
  // The 64 bits from the highest set one down, and whether anything lies below them.
  std::uint64_t head = limbs[top] << (63 - lead);
  bool rest = false;
  if (top > 0) {
    if (lead < 63) {
      head |= limbs[top - 1] >> (lead + 1);
      rest = limbs[top - 1] << (63 - lead) != 0;
    } else {
      rest = limbs[top - 1] != 0;
    }
    for (int i = 0; i < top - 1; ++i) rest = rest || limbs[i] != 0;
  }
  const std::uint64_t low = head & 0x7ff;  // 11 bits too many for a double
  std::uint64_t mantissa = head >> 11;
  if (low > 0x400 || (low == 0x400 && (rest || (mantissa & 1)))) ++mantissa;
  const int exponent = 64 * top + lead - 52 + unit;
  return ldexp(static_cast<double>(mantissa), exponent);
}

}  // namespace personascope::cuda
