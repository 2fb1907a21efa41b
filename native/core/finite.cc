#include "native/core/finite.h"

#include <atomic>
#include <cstdint>
#include <cstring>

#include "native/core/thread_pool.h"

namespace personascope {
namespace {

// All exponent bits set. On bits, so that no compiler flag about floats can fold it away.
bool non_finite(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return (bits & 0x7f800000u) == 0x7f800000u;
}

}  // namespace

std::size_t first_non_finite(const float* values, std::size_t count) {
  std::atomic<std::size_t> first{count};
  parallel_for(count, std::size_t{1} << 18, [&](std::size_t begin, std::size_t end) {
    if (first.load(std::memory_order_relaxed) < begin) return;
    constexpr std::size_t kBlock = 1024;  // the inner loop has no exit, so that it vectorises
    for (std::size_t block = begin; block < end; block += kBlock) {
      const std::size_t stop = block + kBlock < end ? block + kBlock : end;
      unsigned found = 0;
      for (std::size_t i = block; i < stop; ++i) found |= non_finite(values[i]);
      if (!found) continue;
      std::size_t i = block;
      while (!non_finite(values[i])) ++i;
      std::size_t known = first.load(std::memory_order_relaxed);
      while (i < known && !first.compare_exchange_weak(known, i)) {
      }
      return;
    }
  });
  return first.load();
}

}  // namespace personascope
