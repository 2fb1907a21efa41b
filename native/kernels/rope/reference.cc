#include "native/kernels/rope/variants.h"

namespace personascope {

void rope_reference(const RopeArgs& a, const float* cos_table, const float* sin_table, std::size_t begin,
                    std::size_t end) {
  const std::size_t half = a.table->half;
  for (std::size_t t = begin; t < end; ++t) {
    const float* cos = cos_table + static_cast<std::size_t>(a.positions[t]) * half;
    const float* sin = sin_table + static_cast<std::size_t>(a.positions[t]) * half;
    for (std::size_t h = 0; h < a.heads; ++h) {
      float* x = a.x + t * a.token_stride + h * a.head_stride;
      for (std::size_t i = 0; i < half; ++i) {
        const double c = cos[i], s = a.inverse ? -sin[i] : sin[i], x1 = x[i], x2 = x[i + half];
        x[i] = static_cast<float>(x1 * c - x2 * s);
        x[i + half] = static_cast<float>(x2 * c + x1 * s);
      }
    }
  }
}

}  // namespace personascope
