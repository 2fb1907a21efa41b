#include <cmath>

#include "native/kernels/cross_entropy/variants.h"

namespace personascope {

void cross_entropy_reference(const CrossEntropyArgs& a, std::size_t begin, std::size_t end) {
  for (std::size_t r = begin; r < end; ++r) {
    const float* x = a.logits + r * a.logits_stride;
    float* dx = a.dlogits ? a.dlogits + r * a.dlogits_stride : nullptr;
    const double weight = a.weights ? a.weights[r] : 1;
    if (weight == 0) {
      if (a.losses) a.losses[r] = 0;
      if (a.lse) a.lse[r] = 0;
      if (dx)
        for (std::size_t j = 0; j < a.vocabulary; ++j) dx[j] = 0;
      continue;
    }
    const std::size_t target = static_cast<std::size_t>(a.targets[r]);
    double max = x[0];
    for (std::size_t j = 1; j < a.vocabulary; ++j)
      if (x[j] > max) max = x[j];
    double sum = 0;
    for (std::size_t j = 0; j < a.vocabulary; ++j) sum += std::exp(x[j] - max);
    const double lse = max + std::log(sum);
    if (a.losses) a.losses[r] = static_cast<float>(std::log(sum) + (max - x[target]));
    if (a.lse) a.lse[r] = static_cast<float>(lse);
    if (dx)
      for (std::size_t j = 0; j < a.vocabulary; ++j)
        dx[j] = static_cast<float>(weight * (std::exp(x[j] - max) / sum - (j == target ? 1 : 0)));
  }
}

}  // namespace personascope
