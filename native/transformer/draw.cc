// Drawing one token from its logits.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>

#include "native/kernels/softmax/softmax.h"
#include "native/transformer/sampler.h"

namespace personascope {

Drawn draw(const float* logits, std::size_t vocabulary, double temperature, double top_p, std::size_t top_k,
           double u, std::vector<std::uint32_t>& order, std::vector<float>& weights) {
  const SoftmaxKernels& kernels = softmax_variants().active();
  weights.resize(vocabulary);
  const float most = kernels.maximum(logits, vocabulary);
  const double total = kernels.exponentials(logits, vocabulary, most, 1.0f, weights.data());
  require(std::isfinite(total) && std::isfinite(most), ErrorCode::non_finite,
          "the logits of a sampled token are not finite");
  const double log_total = std::log(total) + most;
  const auto result = [&](std::size_t token) {
    return Drawn{static_cast<std::int32_t>(token), static_cast<float>(logits[token] - log_total)};
  };
  const std::size_t best = static_cast<std::size_t>(std::find(logits, logits + vocabulary, most) - logits);
  if (temperature == 0 || top_k == 1) return result(best);
  double mass = total;
  if (temperature != 1)
    // Beyond 1e6 only the maximum is left anyway; larger would overflow.
    mass = kernels.exponentials(logits, vocabulary, most, static_cast<float>(std::min(1 / temperature, 1e6)),
                                weights.data());
  const bool truncated = (top_k > 0 && top_k < vocabulary) || top_p < 1;
  if (!truncated) {
    double left = u * mass;
    std::size_t last = best;
    for (std::size_t i = 0; i < vocabulary; ++i) {
      if (weights[i] == 0) continue;
      left -= weights[i];
      last = i;
      if (left < 0) break;
    }
    return result(last);
  }
  order.resize(vocabulary);
  std::iota(order.begin(), order.end(), 0u);
  const std::size_t keep = top_k > 0 ? std::min(top_k, vocabulary) : vocabulary;
  const auto likelier = [&](std::uint32_t a, std::uint32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(keep), order.end(), likelier);
  // top-p is measured among what top-k kept, as in transformers.
  double kept_mass = 0;
  for (std::size_t i = 0; i < keep; ++i) kept_mass += weights[order[i]];
  std::size_t kept = 0;
  double chosen_mass = 0;
  while (kept < keep && (kept == 0 || chosen_mass < top_p * kept_mass)) chosen_mass += weights[order[kept++]];
  double left = u * chosen_mass;
  std::size_t last = order[0];
  for (std::size_t i = 0; i < kept; ++i) {
    if (weights[order[i]] == 0) break;
    left -= weights[order[i]];
    last = order[i];
    if (left < 0) break;
  }
  return result(last);
}

}  // namespace personascope
