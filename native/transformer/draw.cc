// Drawing one token from its logits.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>

#include "native/transformer/sampler.h"

namespace personascope {

namespace {

// exp(x) for x <= 0, relative error below 3e-7 (Cody-Waite reduction, degree 6); plain arithmetic on purpose:
// any compiler vectorises it, and its bits depend on no library. 0 below -87.
inline float exp_negative(float x) {
  const float clamped = x < -87.0f ? -87.0f : x;
  const float scaled = clamped * 1.44269504f - 0.5f;
  const auto whole = static_cast<std::int32_t>(scaled);  // rounds towards 0, i.e. to the nearest of x / ln 2
  const auto k = static_cast<float>(whole);
  const float r = (clamped - k * 0.693359375f) + k * 2.12194440e-4f;
  float p = 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float power = std::bit_cast<float>((whole + 127) << 23);
  return x < -87.0f ? 0.0f : p * power;
}

// weights[i] = exp((logits[i] - most) * scale); returns their sum (sixteen interleaved sums, added in order).
double exponentials(const float* logits, std::size_t count, float most, float scale, float* weights) {
  float sums[16] = {};
  std::size_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (std::size_t lane = 0; lane < 16; ++lane)
      weights[i + lane] = exp_negative((logits[i + lane] - most) * scale);
    for (std::size_t lane = 0; lane < 16; ++lane) sums[lane] += weights[i + lane];
  }
  for (std::size_t lane = 0; i < count; ++i, ++lane) {
    weights[i] = exp_negative((logits[i] - most) * scale);
    sums[lane] += weights[i];
  }
  double total = 0;
  for (float sum : sums) total += sum;
  return total;
}

}  // namespace

Drawn draw(const float* logits, std::size_t vocabulary, double temperature, double top_p, std::size_t top_k,
           double u, std::vector<std::uint32_t>& order, std::vector<float>& weights) {
  weights.resize(vocabulary);
  float most = logits[0];
  std::size_t best = 0;
  for (std::size_t i = 1; i < vocabulary; ++i)
    if (logits[i] > most) most = logits[i], best = i;
  // A NaN anywhere makes the sum NaN; +inf makes it so through inf - inf.
  const double total = exponentials(logits, vocabulary, most, 1.0f, weights.data());
  require(std::isfinite(total) && std::isfinite(most), ErrorCode::non_finite,
          "the logits of a sampled token are not finite");
  const double log_total = std::log(total) + most;
  const auto result = [&](std::size_t token) {
    return Drawn{static_cast<std::int32_t>(token), static_cast<float>(logits[token] - log_total)};
  };
  if (temperature == 0 || top_k == 1) return result(best);
  double mass = total;
  if (temperature != 1)
    mass = exponentials(logits, vocabulary, most, static_cast<float>(1 / temperature), weights.data());
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
