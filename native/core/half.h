// Sixteen-bit floats to and from fp32, in plain integer arithmetic.
#pragma once
#include <bit>
#include <cstdint>

namespace personascope {

// Exact.
inline float bf16_to_f32(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

// Exact, subnormals, infinities and NaNs included.
inline float f16_to_f32(std::uint16_t bits) {
  const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
  const std::uint32_t rest = bits & 0x7fffu;
  if (rest >= 0x7c00u) return std::bit_cast<float>(sign | 0x7f800000u | (rest & 0x3ffu) << 13);
  // The exponent's bias goes from 15 to 127 by one multiplication, which also normalises subnormals.
  const float value = std::bit_cast<float>(rest << 13) * 0x1.0p112f;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(value) | sign);
}

// To the nearest, ties to even; a NaN stays a (quiet) NaN.
inline std::uint16_t f32_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace personascope
