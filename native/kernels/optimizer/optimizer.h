// AdamW (Loshchilov & Hutter 2019; the update of torch.optim.AdamW) and the norm of a gradient.
//
//   g <- grad_scale * g
//   p <- p (1 - lr weight_decay);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
//   p <- p - lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps)
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"

namespace personascope {

struct AdamWArgs {
  std::size_t count = 0;
  float* params = nullptr;       // [count]
  const float* grads = nullptr;  // [count]
  float* m = nullptr;            // [count], first moment
  float* v = nullptr;            // [count], second moment
  double lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.01;
  std::int64_t step = 1;    // t, from 1
  double grad_scale = 1.0;  // e.g. min(1, clip / norm)
};
void adamw_step(const AdamWArgs& args);

// Sum of squares in fp64, in fixed blocks added in order: the same for any number of threads. The global norm
// is the square root of the sum over all arrays.
double sum_of_squares(std::size_t count, const float* x);

// Scalars of a step, as the variants take them.
struct AdamWScalars {
  float decay, beta1, one_minus_beta1, beta2, one_minus_beta2, step_size, inv_sqrt_correction2, eps,
      grad_scale;
};
struct OptimizerKernels {
  void (*adamw)(float* params, const float* grads, float* m, float* v, std::size_t count,
                const AdamWScalars&);
  double (*sum_of_squares)(std::size_t count, const float* x);  // one block
};
const Variants<OptimizerKernels>& optimizer_variants();

}  // namespace personascope
