#include <cmath>

#include "native/kernels/optimizer/variants.h"

namespace personascope {

namespace {

void adamw(float* params, const float* grads, float* m, float* v, std::size_t count, const AdamWScalars& s) {
  for (std::size_t i = 0; i < count; ++i) {
    const float g = grads[i] * s.grad_scale;
    m[i] = s.beta1 * m[i] + s.one_minus_beta1 * g;
    v[i] = s.beta2 * v[i] + s.one_minus_beta2 * (g * g);
    params[i] =
        params[i] * s.decay - s.step_size * (m[i] / (std::sqrt(v[i]) * s.inv_sqrt_correction2 + s.eps));
  }
}

double block_sum_of_squares(std::size_t count, const float* x) {
  double sum = 0;
  for (std::size_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * x[i];
  return sum;
}

}  // namespace

const OptimizerKernels optimizer_reference = {adamw, block_sum_of_squares};

}  // namespace personascope
