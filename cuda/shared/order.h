// Orders of scores and codes as unsigned integers, for selection by digits.
#pragma once
#include <cstdint>
#include <cstring>

#include "native/core/host_device.h"

namespace personascope::cuda {

PERSONASCOPE_HOST_DEVICE inline std::uint32_t float_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

PERSONASCOPE_HOST_DEVICE inline float bits_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Rises with the value, negative ones included; -0 below +0. Not for NaN.
PERSONASCOPE_HOST_DEVICE inline std::uint32_t ordered(float value) {
  const std::uint32_t bits = float_bits(value);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

PERSONASCOPE_HOST_DEVICE inline float from_ordered(std::uint32_t key) {
  return bits_float(key & 0x80000000u ? key & 0x7fffffffu : ~key);
}

// The larger key is chosen: by score, equal ones by lower latent.
PERSONASCOPE_HOST_DEVICE inline std::uint64_t choice_key(float score, std::uint32_t latent) {
  return static_cast<std::uint64_t>(ordered(score)) << 32 | (0xFFFFFFFFu - latent);
}

// Rising keys: value falling, equal ones by lower latent.
PERSONASCOPE_HOST_DEVICE inline std::uint64_t output_key(float value, std::uint32_t latent) {
  return static_cast<std::uint64_t>(~ordered(value)) << 32 | latent;
}
PERSONASCOPE_HOST_DEVICE inline float output_value(std::uint64_t key) {
  return from_ordered(~static_cast<std::uint32_t>(key >> 32));
}
PERSONASCOPE_HOST_DEVICE inline std::uint32_t output_latent(std::uint64_t key) {
  return static_cast<std::uint32_t>(key);
}

// Finds the k-th largest of some keys digit by digit from the top: `prefix` holds the digits known so far,
// and `rank` how many keys with that prefix lie at or above the one sought. All threads of a block step
// alike.
template <class Key>
struct DigitSearch {
  static constexpr int kBits = 8, kBuckets = 1 << kBits, kDigits = sizeof(Key) * 8 / kBits;
  Key prefix = 0;
  std::uint32_t rank;  // k: 1 <= k <= keys
  PERSONASCOPE_HOST_DEVICE explicit DigitSearch(std::uint32_t k) : rank(k) {}

  PERSONASCOPE_HOST_DEVICE static int shift(int digit) { return (kDigits - 1 - digit) * kBits; }
  PERSONASCOPE_HOST_DEVICE static int bucket(Key key, int digit) {
    return static_cast<int>(key >> shift(digit)) & (kBuckets - 1);
  }
  // Whether a key still counts at this digit.
  PERSONASCOPE_HOST_DEVICE bool counts(Key key, int digit) const {
    return digit == 0 || (key ^ prefix) >> (shift(digit) + kBits) == 0;
  }
  // The bucket was found: `above` keys of larger buckets had the prefix.
  PERSONASCOPE_HOST_DEVICE void take(int found, std::uint32_t above, int digit) {
    prefix |= static_cast<Key>(found) << shift(digit);
    rank -= above;
  }
};

}  // namespace personascope::cuda
