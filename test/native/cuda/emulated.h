// The GPU's screening of one encoder, emulated on the host with the code that the kernels share.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/shared/bounds.h"
#include "cuda/shared/canonical.h"
#include "native/core/random.h"

namespace emulated {

using namespace personascope;
using namespace personascope::cuda;

struct Problem {
  std::size_t latents, width, tokens;
  std::vector<float> w, bias, x, mean;
  Selection selection;
};

inline float canonical(const float* w, const float* x, std::size_t width) {
  float sums[64] = {};
  for (std::size_t i = 0; i < width; ++i) sums[i % 64] = std::fma(w[i], x[i], sums[i % 64]);
  for (std::size_t half = 32; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

// A tensor core's sum: blocks of products are added after shifting them to the largest exponent, 24 bits
// kept, the rest cut off. As pessimistic as any that was measured.
inline float tensor_core(const std::vector<float>& w, const std::vector<float>& x, std::size_t block) {
  double sum = 0;
  for (std::size_t begin = 0; begin < w.size(); begin += block) {
    const std::size_t end = std::min(w.size(), begin + block);
    double largest = std::fabs(sum);
    for (std::size_t i = begin; i < end; ++i)
      largest = std::max(largest, std::fabs(static_cast<double>(w[i]) * x[i]));
    if (largest == 0) continue;
    const double unit = std::ldexp(1.0, std::ilogb(largest) - 23);
    double total = std::trunc(sum / unit) * unit;
    for (std::size_t i = begin; i < end; ++i)
      total += std::trunc(static_cast<double>(w[i]) * x[i] / unit) * unit;
    if (total != 0) {
      const double last = std::ldexp(1.0, std::ilogb(total) - 23);
      total = std::trunc(total / last) * last;
    }
    sum = total;
  }
  return static_cast<float>(sum);
}

struct Rounded {
  std::vector<float> values;  // w^ or x^, as whole numbers for int8
  std::vector<std::int8_t> whole;
  float scale = 1;
  double residual = 0;
};

inline Rounded round_row(DevicePrecision precision, const std::vector<float>& row) {
  Rounded rounded;
  double lost = 0;
  if (precision == DevicePrecision::int8) {
    float largest = 0;
    for (float value : row) largest = std::max(largest, std::fabs(value));
    const Int8Scale scale = int8_scale(largest);
    rounded.scale = scale.scale;
    for (float value : row) {
      rounded.whole.push_back(int8_round(value, scale.inverse));
      const double error = int8_error(value, rounded.whole.back(), scale.scale);
      lost += error * error;
    }
  } else {
    for (float value : row) {
      rounded.values.push_back(bf16_widen(bf16_round(value)));
      const double error = static_cast<double>(value) - rounded.values.back();
      lost += error * error;
    }
  }
  rounded.residual = std::sqrt(lost);
  return rounded;
}

inline double length(const std::vector<float>& row) {
  double squares = 0;
  for (float value : row) squares += static_cast<double>(value) * value;
  return std::sqrt(squares);
}

// Rows and tokens as the device prepares them.
class Screening {
 public:
  Screening(const Problem& problem, DevicePrecision precision) : problem_(problem), precision_(precision) {
    const std::size_t d = problem.width;
    double mean_norm = problem.mean.empty() ? 0 : length(problem.mean);
    for (std::size_t l = 0; l < problem.latents; ++l) {
      const std::vector<float> row(&problem.w[l * d], &problem.w[l * d] + d);
      rows_.push_back(round_row(precision, row));
      double along = 0;
      if (!problem.mean.empty())
        for (std::size_t i = 0; i < d; ++i) along += static_cast<double>(row[i]) * problem.mean[i];
      const RowFacts facts = {length(row), rows_.back().residual, along};
      bounds_.push_back(latent_bound(precision, d, facts, rows_.back().scale,
                                     latent_terms(problem.selection, problem.bias.data(), l), mean_norm));
    }
    for (std::size_t t = 0; t < problem.tokens; ++t) {
      std::vector<float> row(&problem.x[t * d], &problem.x[t * d] + d), centred(row);
      if (!problem.mean.empty())
        for (std::size_t i = 0; i < d; ++i) centred[i] = row[i] - problem.mean[i];
      tokens_.push_back(round_row(precision, centred));
      token_bounds_.push_back(
          token_bound(d, tokens_.back().scale, length(row), length(centred), tokens_.back().residual));
    }
  }

  Interval interval(std::size_t latent, std::size_t token) const {
    const Rounded &row = rows_[latent], &x = tokens_[token];
    float product;
    if (precision_ == DevicePrecision::int8) {
      std::int64_t sum = 0;
      for (std::size_t i = 0; i < row.whole.size(); ++i) sum += row.whole[i] * x.whole[i];
      product = static_cast<float>(static_cast<std::int32_t>(sum));
    } else {
      product = tensor_core(row.values, x.values, latent % 2 ? 4 : 16);
    }
    return screened_interval(product, bounds_[latent], token_bounds_[token]);
  }

  Scored score(std::size_t latent, std::size_t token) const {
    const std::size_t d = problem_.width;
    return score_of(problem_.selection, problem_.bias.data(), latent,
                    canonical(&problem_.w[latent * d], &problem_.x[token * d], d));
  }

 private:
  const Problem& problem_;
  DevicePrecision precision_;
  std::vector<Rounded> rows_, tokens_;
  std::vector<LatentBound> bounds_;
  std::vector<TokenBound> token_bounds_;
};

// outlier: a few dimensions of the tokens have a large mean, as residual streams do.
inline Problem random_problem(std::size_t latents, std::size_t width, std::size_t tokens, std::uint64_t seed,
                              double size = 1, bool outlier = false) {
  Problem problem{latents, width, tokens, {}, {}, {}, {}, {}};
  const Philox random(seed, 7);
  std::uint64_t at = 0;
  const auto draw = [&](double scale) { return static_cast<float>(random.gaussian(at++) * scale); };
  for (std::size_t i = 0; i < latents * width; ++i) problem.w.push_back(draw(1));
  for (std::size_t l = 0; l < latents; ++l) problem.bias.push_back(draw(size));
  for (std::size_t i = 0; i < tokens * width; ++i) {
    const bool large = outlier && i % width % 97 == 3;
    problem.x.push_back(static_cast<float>(draw(size) + (large ? 60 * size : 0)));
  }
  if (outlier)
    for (std::size_t i = 0; i < width; ++i)
      problem.mean.push_back(static_cast<float>(i % 97 == 3 ? 60 * size : 0));
  return problem;
}

}  // namespace emulated
