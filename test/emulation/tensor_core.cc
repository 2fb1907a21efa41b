#include "test/emulation/tensor_core.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace emulation {

namespace {

float widen(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// 2^(exponent of a positive normal double - 23), and what to multiply with instead of dividing by it.
struct Unit {
  double unit, inverse;
};
Unit unit_of(double largest) {
  std::uint64_t bits;
  std::memcpy(&bits, &largest, sizeof bits);
  const auto exponent = static_cast<std::int64_t>(bits >> 52 & 0x7ff);
  const std::uint64_t unit = static_cast<std::uint64_t>(exponent - 23) << 52;
  const std::uint64_t inverse = static_cast<std::uint64_t>(2046 - (exponent - 23)) << 52;
  Unit made;
  std::memcpy(&made.unit, &unit, sizeof unit);
  std::memcpy(&made.inverse, &inverse, sizeof inverse);
  return made;
}

constexpr double kNormal = 0x1p-126;

}  // namespace

Rounding::Rounding(std::size_t terms) : terms_(terms) {
  // Without a seed: blocks of 4, always towards zero, which is what hurts long sums most.
  constexpr std::size_t kBlocks[] = {4, 8, 16};
  const std::uint32_t drawn = chance();
  block_ = kBlocks[drawn % 3];
  way_ = static_cast<Way>(drawn / 3 % 3);
  flush_ = drawn / 9 % 2 == 1;
  for (std::size_t i = 0; i < terms; ++i) order_[i] = static_cast<std::uint8_t>(i);
  if (seed() != 0)
    for (std::size_t i = terms; i > 1; --i) std::swap(order_[i - 1], order_[chance() % i]);
}

float Rounding::add(float sum, const std::uint16_t* a, const std::uint16_t* b) const {
  double total = sum;
  for (std::size_t begin = 0; begin < terms_; begin += block_) {
    double products[16];
    const std::size_t count = std::min(block_, terms_ - begin);
    double largest = std::fabs(total);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t k = order_[begin + i];
      double product = static_cast<double>(widen(a[k])) * widen(b[k]);
      if (flush_ && std::fabs(product) < kNormal) product = 0;
      products[i] = product;
      largest = std::max(largest, std::fabs(product));
    }
    if (!(largest >= 0x1p-300)) continue;  // all zeros
    if (!std::isfinite(largest)) {
      for (std::size_t i = 0; i < count; ++i) total += products[i];
      continue;
    }
    const Unit unit = unit_of(largest);
    const auto whole = [&](double value) {
      const double steps = value * unit.inverse;
      auto cut = static_cast<std::int64_t>(steps);  // towards zero
      if (way_ == Way::down && static_cast<double>(cut) > steps) --cut;
      if (way_ == Way::up && static_cast<double>(cut) < steps) ++cut;
      return cut;
    };
    std::int64_t steps = whole(total);
    for (std::size_t i = 0; i < count; ++i) steps += whole(products[i]);
    // The sum has up to 29 bits; 24 are kept.
    int extra = 0;
    while (std::llabs(steps) >> extra >= std::int64_t{1} << 24) ++extra;
    const std::int64_t step = std::int64_t{1} << extra, rest = steps % step;
    steps -= rest;
    if (way_ == Way::down && rest < 0) steps -= step;
    if (way_ == Way::up && rest > 0) steps += step;
    total = static_cast<double>(steps) * unit.unit;
  }
  if (flush_ && std::fabs(total) < kNormal) total = 0;
  return static_cast<float>(total);
}

void mma_m16n8k16_bf16(void* const* operands) {
  std::uint16_t a[16][16], b[8][16];  // [row][k], [column][k]
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const MmaLane<float>*>(operands[lane]);
    const int group = lane >> 2, within = lane % 4;
    // a0 ... a7: two a word, the lower half first.
    for (int i = 0; i < 8; ++i) {
      const int row = i < 2 || (i >= 4 && i < 6) ? group : group + 8;
      const int column = within * 2 + (i & 1) + (i < 4 ? 0 : 8);
      a[row][column] = static_cast<std::uint16_t>(own.a[i / 2] >> 16 * (i % 2));
    }
    for (int i = 0; i < 4; ++i) {
      const int row = within * 2 + (i & 1) + (i < 2 ? 0 : 8);
      b[group][row] = static_cast<std::uint16_t>(own.b[i / 2] >> 16 * (i % 2));
    }
  }
  const Rounding rounding(16);
  for (int lane = 0; lane < 32; ++lane) {
    float* sums = static_cast<const MmaLane<float>*>(operands[lane])->sums;
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? lane >> 2 : (lane >> 2) + 8, column = lane % 4 * 2 + (i & 1);
      sums[i] = rounding.add(sums[i], a[row], b[column]);
    }
  }
}

void mma_m16n8k32_s8(void* const* operands) {
  std::int8_t a[16][32], b[8][32];
  for (int lane = 0; lane < 32; ++lane) {
    const auto& own = *static_cast<const MmaLane<std::int32_t>*>(operands[lane]);
    const int group = lane >> 2, within = lane % 4;
    // a0 ... a15: four a word, the lowest byte first.
    for (int i = 0; i < 16; ++i) {
      const int row = i < 4 || (i >= 8 && i < 12) ? group : group + 8;
      const int column = within * 4 + (i & 3) + (i < 8 ? 0 : 16);
      a[row][column] = static_cast<std::int8_t>(own.a[i / 4] >> 8 * (i % 4));
    }
    for (int i = 0; i < 8; ++i) {
      const int row = within * 4 + (i & 3) + (i < 4 ? 0 : 16);
      b[group][row] = static_cast<std::int8_t>(own.b[i / 4] >> 8 * (i % 4));
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    std::int32_t* sums = static_cast<const MmaLane<std::int32_t>*>(operands[lane])->sums;
    for (int i = 0; i < 4; ++i) {
      const int row = i < 2 ? lane >> 2 : (lane >> 2) + 8, column = lane % 4 * 2 + (i & 1);
      std::int32_t sum = sums[i];
      for (int k = 0; k < 32; ++k) sum += a[row][k] * b[column][k];
      sums[i] = sum;
    }
  }
}

}  // namespace emulation
