// Counter-based random numbers (Philox4x32-10, Salmon et al., SC 2011): the value at (seed, stream, index) is
// a pure function, so any thread may draw any number and the result never depends on the order of drawing.
#pragma once
#include <array>
#include <cmath>
#include <cstdint>

namespace personascope {

class Philox {
 public:
  Philox(std::uint64_t seed, std::uint64_t stream) : seed_(seed), stream_(stream) {}

  // Four independent uniform 32-bit words for one index.
  std::array<std::uint32_t, 4> words(std::uint64_t index) const {
    std::array<std::uint32_t, 4> c = {
        static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
        static_cast<std::uint32_t>(stream_), static_cast<std::uint32_t>(stream_ >> 32)};
    std::uint32_t k0 = static_cast<std::uint32_t>(seed_), k1 = static_cast<std::uint32_t>(seed_ >> 32);
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = 0xD2511F53ull * c[0], p1 = 0xCD9E8D57ull * c[2];
      c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
           static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    return c;
  }

  // Uniform in [0, 1), 53 bits.
  double uniform(std::uint64_t index) const {
    const auto w = words(index);
    const std::uint64_t bits = (static_cast<std::uint64_t>(w[0]) << 32 | w[1]) >> 11;
    return static_cast<double>(bits) * 0x1.0p-53;
  }

  // Standard normal (Box-Muller; one of the pair).
  double gaussian(std::uint64_t index) const {
    const auto w = words(index);
    const double u = (static_cast<double>(w[0]) + 1.0) * 0x1.0p-32;  // (0, 1]
    const double v = static_cast<double>(w[1]) * 0x1.0p-32;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

 private:
  std::uint64_t seed_, stream_;
};

}  // namespace personascope
