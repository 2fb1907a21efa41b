#include <algorithm>
#include <cmath>

#include "native/kernels/steer/variants.h"

namespace personascope {

void steer_reference(const SteerArgs& args, std::size_t begin, std::size_t end) {
  for (std::size_t row = begin; row < end; ++row) {
    if (args.mask && !args.mask[row]) continue;
    float* x = args.x + row * args.stride;
    const std::size_t group = args.group ? args.group[row] : 0;
    const float* vectors = args.vectors + group * args.dimensions * args.width;
    float change[kMostSteerDimensions];
    for (std::size_t j = 0; j < args.dimensions; ++j) {
      const std::size_t at = group * args.dimensions + j;
      if (args.kind == SteerKind::add) {
        change[j] = args.amounts[at];
        continue;
      }
      float sums[64] = {};
      for (std::size_t i = 0; i < args.width; ++i) {
        const float value = args.centre ? x[i] - args.centre[i] : x[i];
        sums[i % 64] = std::fma(value, vectors[j * args.width + i], sums[i % 64]);
      }
      for (std::size_t half = 32; half > 0; half /= 2)
        for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
      const float along = sums[0];
      if (args.kind == SteerKind::ablate) change[j] = -along;
      if (args.kind == SteerKind::clamp)
        change[j] = std::min(std::max(along, args.low[at]), args.high[at]) - along;
      if (args.kind == SteerKind::project) change[j] = along;
    }
    for (std::size_t i = 0; i < args.width; ++i) {
      float value = args.kind != SteerKind::project ? x[i] : args.centre ? args.centre[i] : 0.0f;
      for (std::size_t j = 0; j < args.dimensions; ++j)
        value = std::fma(change[j], vectors[j * args.width + i], value);
      x[i] = value;
    }
  }
}

}  // namespace personascope
