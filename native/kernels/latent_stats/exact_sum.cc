#include "native/kernels/latent_stats/exact_sum.h"

#include <cmath>

namespace personascope {

double round_fixed(const std::uint64_t* limbs, std::size_t count, int unit) {
  while (count > 0 && limbs[count - 1] == 0) --count;
  if (count == 0) return 0;
  const int top = 63 - std::countl_zero(limbs[count - 1]);
  const int highest = static_cast<int>(64 * (count - 1)) + top;  // the number of the leading bit
  const auto bit = [&](int number) { return number >= 0 && (limbs[number / 64] >> (number % 64) & 1) != 0; };
  // 53 bits from the leading one down, then rounding by the next one and whether anything is below it.
  const int lowest = highest - 52;
  std::uint64_t kept = 0;
  for (int i = 0; i < 2; ++i) {  // the 53 bits lie in at most two limbs
    const int limb = static_cast<int>(count) - 1 - i;
    if (limb < 0) break;
    const int shift = 64 * limb - lowest;
    if (shift >= 64 || shift <= -64) continue;
    kept |= shift >= 0 ? limbs[limb] << shift : limbs[limb] >> -shift;
  }
  if (bit(lowest - 1)) {
    bool below = false;
    const int half = lowest - 1;  // number of the rounding bit
    for (int limb = 0; limb < half / 64 && !below; ++limb) below = limbs[limb] != 0;
    if (half % 64 != 0) below = below || (limbs[half / 64] & ((std::uint64_t{1} << half % 64) - 1)) != 0;
    if (below || (kept & 1) != 0) ++kept;
  }
  return std::ldexp(static_cast<double>(kept), lowest + unit);
}

}  // namespace personascope
