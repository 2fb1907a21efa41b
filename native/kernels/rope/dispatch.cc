#include <cmath>
#include <string>

#include "native/kernels/parallel.h"
#include "native/kernels/rope/variants.h"

namespace personascope {

const Variants<RopeFn>& rope_variants() {
  static const Variants<RopeFn> variants = {rope_reference, rope_avx2, rope_avx512};
  return variants;
}

std::vector<float> rope_inv_freq(double theta, std::size_t rotary_dim) {
  if (rotary_dim == 0 || rotary_dim % 2 != 0 || !(theta > 0))
    fail(ErrorCode::invalid_argument, "rope: found theta " + std::to_string(theta) +
                                          " and rotary dimension " + std::to_string(rotary_dim) +
                                          ", expected theta > 0 and an even dimension");
  std::vector<float> inv_freq(rotary_dim / 2);
  for (std::size_t i = 0; i < inv_freq.size(); ++i)
    inv_freq[i] = static_cast<float>(
        1 / std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(rotary_dim)));
  return inv_freq;
}

RopeTable rope_table(const std::vector<float>& inv_freq, std::size_t positions) {
  RopeTable table;
  table.positions = positions;
  table.half = inv_freq.size();
  table.cos.resize(positions * table.half);
  table.sin.resize(positions * table.half);
  for (std::size_t p = 0; p < positions; ++p)
    for (std::size_t i = 0; i < table.half; ++i) {
      const float angle = static_cast<float>(p) * inv_freq[i];
      table.cos[p * table.half + i] = static_cast<float>(std::cos(static_cast<double>(angle)));
      table.sin[p * table.half + i] = static_cast<float>(std::sin(static_cast<double>(angle)));
    }
  return table;
}

void rope(const RopeArgs& args) {
  const RopeTable& table = *args.table;
  if (2 * table.half > args.head_dim)
    fail(ErrorCode::invalid_argument, "rope: head_dim " + std::to_string(args.head_dim) +
                                          ", expected at least " + std::to_string(2 * table.half));
  for (std::size_t t = 0; t < args.tokens; ++t)
    if (args.positions[t] < 0 || static_cast<std::size_t>(args.positions[t]) >= table.positions)
      fail(ErrorCode::invalid_argument, "rope: position " + std::to_string(args.positions[t]) + " of token " +
                                            std::to_string(t) + ", expected 0 to " +
                                            std::to_string(table.positions - 1));
  const RopeFn kernel = rope_variants().active();
  parallel_rows(args.tokens, args.heads * table.half * 4, [&](std::size_t begin, std::size_t end) {
    kernel(args, table.cos.data(), table.sin.data(), begin, end);
  });
}

}  // namespace personascope
