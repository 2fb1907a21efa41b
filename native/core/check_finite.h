// Refuses NaN and Inf in arrays that come from outside, and says where the first one is.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>

#include "native/core/error.h"

namespace personascope {

// values [rows, stride], the first `width` of each row; throws non_finite naming `what`, row (counted from
// first_row, called `unit` where it is given) and column.
inline void check_finite(const char* what, const float* values, std::size_t rows, std::size_t width,
                         std::size_t stride, std::size_t first_row = 0, const char* unit = nullptr) {
  constexpr std::uint32_t kExponent = 0x7f800000u;
  for (std::size_t row = 0; row < rows; ++row) {
    const float* line = values + row * stride;
    std::uint32_t found = 0;  // without a branch inside, so that compilers vectorise it
    for (std::size_t i = 0; i < width; ++i) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(line[i]) & kExponent;
      found |= static_cast<std::uint32_t>(bits == kExponent);
    }
    if (!found) continue;
    for (std::size_t i = 0; i < width; ++i) {
      const std::uint32_t bits = std::bit_cast<std::uint32_t>(line[i]);
      if ((bits & kExponent) != kExponent) continue;
      const char* name = bits << 9 ? "NaN" : bits >> 31 ? "-Inf" : "Inf";
      std::string where = std::string(what) + ": " + name;
      if (unit || rows > 1 || first_row > 0)
        where += std::string(" in ") + (unit ? unit : "row") + " " + std::to_string(first_row + row);
      fail(ErrorCode::non_finite, where + " at dimension " + std::to_string(i));
    }
  }
}

}  // namespace personascope
