// The canonical product's sums (native/kernels/encode/encode.h): 64 fp32 sums side by side, added by the tree
// i + (i + 32), + 16, + 8, + 4, + 2, + 1, the same bits on every ISA. Include after lanes_*.h.
#pragma once
#include <cstddef>

namespace personascope {
namespace {

struct Sum64 {
  static constexpr std::size_t kParts = 64 / kLanes;
  Vec part[kParts];
  Sum64() {
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kParts; ++i) part[i] = v_zero();
  }
  float total() const {
    Vec sums[kParts];
#pragma GCC unroll 8
    for (std::size_t i = 0; i < kParts; ++i) sums[i] = part[i];
#pragma GCC unroll 4
    for (std::size_t half = kParts / 2; half > 0; half /= 2)
#pragma GCC unroll 4
      for (std::size_t i = 0; i < half; ++i) sums[i] = v_add(sums[i], sums[i + half]);
    return v_sum(sums[0]);
  }
};

}  // namespace
}  // namespace personascope
