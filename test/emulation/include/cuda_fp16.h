// Half precision, as far as it is used: widening, which is exact.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <cstring>

struct __half_raw {
  std::uint16_t x;
};
struct __half {
  std::uint16_t bits;
};
struct __half2_raw {
  std::uint16_t x, y;
};
struct __half2 {
  __half x, y;
  explicit __half2(const __half2_raw& raw) : x{raw.x}, y{raw.y} {}
};

inline float __half2float(__half half) {
  const std::uint32_t sign = (half.bits & 0x8000u) << 16, exponent = half.bits >> 10 & 31;
  const std::uint32_t fraction = half.bits & 0x3ffu;
  if (exponent == 0) {  // fraction 2^-24
    const float value = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  const std::uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline float2 __half22float2(__half2 pair) {
  return {__half2float(pair.x), __half2float(pair.y)};
}
