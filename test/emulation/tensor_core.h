// Products of tensor cores, by the fragments that the PTX manual gives ("Matrix Fragments for mma.m16n8k16
// with floating point type", "for mma.m16n8k32"), and rounded as badly as any that was measured.
#pragma once
#include <cstddef>
#include <cstdint>

#include "test/emulation/machine.h"

namespace emulation {

// What a lane brings to an mma.sync, and where its four results lie.
template <class Sum>
struct MmaLane {
  std::uint32_t a[4], b[2];
  Sum* sums;
};
// Combines of warp_together: operands are MmaLane<float> and MmaLane<std::int32_t>.
void mma_m16n8k16_bf16(void* const* operands);
void mma_m16n8k32_s8(void* const* operands);

// How a tensor core may add: the terms in any order, in blocks of any size from 4 on, each block shifted to
// its largest exponent, the sum so far among it, with 24 bits kept; what is shifted out is lost.
class Rounding {
 public:
  explicit Rounding(std::size_t terms);  // drawn anew for every instruction
  // sum + the products of bf16 numbers.
  float add(float sum, const std::uint16_t* a, const std::uint16_t* b) const;

 private:
  enum class Way { to_zero, down, up };
  std::size_t terms_, block_;
  std::uint8_t order_[32];
  Way way_;
  bool flush_;  // products and sums below 2^-126 are lost
};

}  // namespace emulation
