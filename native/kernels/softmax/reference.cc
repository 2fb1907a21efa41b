#include <cmath>

#include "native/kernels/softmax/variants.h"

namespace personascope {

float softmax_maximum_reference(const float* x, std::size_t count) {
  float most = x[0];
  for (std::size_t i = 1; i < count; ++i)
    if (x[i] > most) most = x[i];
  return most;
}

float softmax_exponentials_reference(const float* x, std::size_t count, float shift, float scale, float* y) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += y[i] = std::exp((x[i] - shift) * scale);
  return static_cast<float>(sum);
}

}  // namespace personascope
