// Sums of non-negative fp32 values, and of their squares, without any rounding: fixed-point integers wide
// enough for every addend (the idea is Kulisch's long accumulator). Integer addition is associative, so a sum
// does not depend on the order of its addends nor on how they were split over threads, batches, shards or
// machines; it is rounded once, when it is read.
//
// Every latent has a window of 2^-50 ... 2^78 for its sum and of 2^-100 ... 2^92 for its squares, which takes
// values from 2^-27 up to (not including) 2^26: what activations are. Others go to a WideSum, kept only for
// the latents that need one. Which of the two takes a value depends on the value alone.
#pragma once
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace personascope {

// limbs[0] + limbs[1] 2^64 + ... += term 2^shift. The caller knows that it fits.
inline void add_shifted(std::uint64_t* limbs, std::size_t count, std::uint64_t term, unsigned shift) {
  std::size_t at = shift / 64;
  const unsigned bit = shift % 64;
  unsigned __int128 part = static_cast<unsigned __int128>(term) << bit;
  for (; at < count && part != 0; ++at) {
    part += limbs[at];
    limbs[at] = static_cast<std::uint64_t>(part);
    part >>= 64;
  }
}

// The fixed-point number times 2^unit, to the nearest double, ties to even. unit >= -1000, and the result <
// 2^1000.
double round_fixed(const std::uint64_t* limbs, std::size_t count, int unit);

// 640 bits, unit 2^-298 (the square of the least fp32): takes any fp32 value or square, 2^80 times and more.
struct WideSum {
  static constexpr int kUnit = -298;
  static constexpr std::size_t kLimbs = 10;
  std::array<std::uint64_t, kLimbs> limbs{};
  void add(std::uint64_t term, int exponent) {  // term 2^exponent, exponent >= kUnit
    add_shifted(limbs.data(), kLimbs, term, static_cast<unsigned>(exponent - kUnit));
  }
  void add(const std::uint64_t* other, std::size_t count, int unit) {
    for (std::size_t i = 0; i < count; ++i) add(other[i], unit + static_cast<int>(64 * i));
  }
  double value() const { return round_fixed(limbs.data(), kLimbs, kUnit); }
};

// A finite fp32 value >= 0 as mantissa 2^exponent.
struct FloatParts {
  std::uint32_t mantissa;
  int exponent;
  explicit FloatParts(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t biased = bits >> 23 & 0xff;
    mantissa = (bits & 0x7fffff) | (biased ? 0x800000u : 0u);
    exponent = static_cast<int>(biased ? biased : 1) - 150;
  }
};

inline void add_value(WideSum& sum, float value) {
  const FloatParts parts(value);
  sum.add(parts.mantissa, parts.exponent);
}
inline void add_square(WideSum& sum, float value) {
  const FloatParts parts(value);
  sum.add(static_cast<std::uint64_t>(parts.mantissa) * parts.mantissa, 2 * parts.exponent);
}

// What the window holds of a latent, as plain numbers.
struct LatentTotals {
  static constexpr int kSumUnit = -50, kSquaresUnit = -100;
  static constexpr std::size_t kSumLimbs = 2, kSquaresLimbs = 3;
  std::array<std::uint64_t, kSumLimbs> sum{};
  std::array<std::uint64_t, kSquaresLimbs> squares{};

  static bool fits(float value) { return value >= 0x1p-27f && value < 0x1p26f; }
  // fits(value)
  void add(float value) {
    const FloatParts parts(value);
    const auto shift = static_cast<unsigned>(parts.exponent - kSumUnit);
    add_shifted(sum.data(), kSumLimbs, parts.mantissa, shift);
    add_shifted(squares.data(), kSquaresLimbs, static_cast<std::uint64_t>(parts.mantissa) * parts.mantissa,
                2 * shift);
  }
  void add(const LatentTotals& other) {
    for (std::size_t i = 0; i < kSumLimbs; ++i)
      add_shifted(sum.data(), kSumLimbs, other.sum[i], static_cast<unsigned>(64 * i));
    for (std::size_t i = 0; i < kSquaresLimbs; ++i)
      add_shifted(squares.data(), kSquaresLimbs, other.squares[i], static_cast<unsigned>(64 * i));
  }
};

}  // namespace personascope
