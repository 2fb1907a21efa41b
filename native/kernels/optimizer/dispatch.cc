#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "native/kernels/optimizer/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

const Variants<OptimizerKernels>& optimizer_variants() {
  static const Variants<OptimizerKernels> variants = {optimizer_reference, optimizer_avx2, optimizer_avx512};
  return variants;
}

void adamw_step(const AdamWArgs& args) {
  const auto in_unit = [](double beta) { return beta >= 0 && beta < 1; };
  if (args.step < 1 || !in_unit(args.beta1) || !in_unit(args.beta2) || !(args.eps >= 0))
    fail(ErrorCode::invalid_argument, "adamw: found step " + std::to_string(args.step) + ", betas " +
                                          std::to_string(args.beta1) + " and " + std::to_string(args.beta2) +
                                          ", eps " + std::to_string(args.eps) +
                                          "; expected step >= 1, betas in [0, 1), eps >= 0");
  const double correction1 = 1 - std::pow(args.beta1, static_cast<double>(args.step));
  const double correction2 = 1 - std::pow(args.beta2, static_cast<double>(args.step));
  AdamWScalars s;
  s.decay = static_cast<float>(1 - args.lr * args.weight_decay);
  s.beta1 = static_cast<float>(args.beta1);
  s.one_minus_beta1 = static_cast<float>(1 - args.beta1);
  s.beta2 = static_cast<float>(args.beta2);
  s.one_minus_beta2 = static_cast<float>(1 - args.beta2);
  s.step_size = static_cast<float>(args.lr / correction1);
  s.inv_sqrt_correction2 = static_cast<float>(1 / std::sqrt(correction2));
  s.eps = static_cast<float>(args.eps);
  s.grad_scale = static_cast<float>(args.grad_scale);
  const auto kernel = optimizer_variants().active().adamw;
  parallel_rows(args.count, 4, [&](std::size_t begin, std::size_t end) {
    kernel(args.params + begin, args.grads + begin, args.m + begin, args.v + begin, end - begin, s);
  });
}

double sum_of_squares(std::size_t count, const float* x) {
  constexpr std::size_t kBlock = 16384;
  const std::size_t blocks = (count + kBlock - 1) / kBlock;
  const auto kernel = optimizer_variants().active().sum_of_squares;
  std::vector<double> partial(blocks);
  parallel_rows(blocks, kBlock, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i)
      partial[i] = kernel(std::min(kBlock, count - i * kBlock), x + i * kBlock);
  });
  double sum = 0;
  for (double value : partial) sum += value;
  return sum;
}

}  // namespace personascope
