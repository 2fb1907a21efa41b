#include "native/kernels/latent_stats/difference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <string>

#include "native/core/error.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"

namespace personascope {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Continued fraction of the incomplete beta function (Lentz; Numerical Recipes 6.4).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto away = [](double v) { return std::fabs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / away(1 - (a + b) * x / (a + 1)), h = d;
  for (int m = 1; m <= 500; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + even * d);
    c = away(1 + even / c);
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + odd * d);
    c = away(1 + odd / c);
    h *= d * c;
    if (std::fabs(d * c - 1) < 1e-15) break;
  }
  return h;
}

double regularised_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a
                                   : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

// Linear interpolation between order statistics; reorders `values`.
double quantile(std::vector<double>& values, double share) {
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::ptrdiff_t>(std::floor(at));
  std::nth_element(values.begin(), values.begin() + below, values.end());
  const double low = values[static_cast<std::size_t>(below)], part = at - std::floor(at);
  if (part == 0) return low;
  return low + part * (*std::min_element(values.begin() + below + 1, values.end()) - low);
}

// One model's statistics with its groups numbered 0 ... groups - 1 in common with the other models.
struct Model {
  const LatentStats* stats = nullptr;
  double weight = 0;                    // its share in delta; the model before has -1
  std::vector<double> group_rows;       // [groups]
  std::vector<std::uint32_t> dense_of;  // per group sum: the number of its group
  std::vector<std::size_t> begin;       // [latents + 1] into the group sums
  std::vector<double> resampled_rows;   // [resamples]
  double mean(std::size_t latent) const { return stats->sum()[latent] / static_cast<double>(stats->rows()); }
};

// [groups, resamples]: how often a group was drawn.
std::vector<std::uint16_t> draw(std::size_t groups, const LatentDiffOptions& options) {
  require(groups * options.resamples <= std::size_t{1} << 31, ErrorCode::invalid_argument,
          "diff: " + std::to_string(groups) + " groups x " + std::to_string(options.resamples) +
              " resamples is more than 2^31; ask for fewer resamples");
  std::vector<std::uint16_t> drawn(groups * options.resamples);
  parallel_for(options.resamples, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const Philox random(options.seed, r);
      for (std::size_t i = 0; i < groups; ++i) {
        const auto group = static_cast<std::size_t>(random.uniform(i) * static_cast<double>(groups));
        std::uint16_t& count = drawn[group * options.resamples + r];
        if (count < 65535) ++count;
      }
    }
  });
  return drawn;
}

class Clusters {
 public:
  Clusters(std::vector<Model>& models, const LatentDiffOptions& options)
      : models_(models), options_(options) {
    std::map<std::uint32_t, std::uint32_t> number;
    for (const Model& model : models)
      for (const auto& [group, rows] : model.stats->group_rows()) number.emplace(group, 0);
    for (auto& [group, dense] : number) dense = static_cast<std::uint32_t>(groups_++);
    for (Model& model : models) {
      model.group_rows.assign(groups_, 0);
      for (const auto& [group, rows] : model.stats->group_rows())
        model.group_rows[number[group]] = static_cast<double>(rows);
      const auto& sums = model.stats->group_sums();
      model.begin.assign(model.stats->options().latents + 1, 0);
      for (const GroupSum& entry : sums) {
        ++model.begin[entry.latent + 1];
        model.dense_of.push_back(number[entry.group]);
      }
      std::partial_sum(model.begin.begin(), model.begin.end(), model.begin.begin());
    }
    if (groups_ < 2) return;
    drawn_ = draw(groups_, options);
    for (Model& model : models) {
      model.resampled_rows.assign(options.resamples, 0);
      for (std::size_t g = 0; g < groups_; ++g)
        for (std::size_t r = 0; r < options.resamples; ++r)
          model.resampled_rows[r] += drawn_[g * options.resamples + r] * model.group_rows[g];
    }
  }
  std::size_t groups() const { return groups_; }

  void test(std::size_t latent, LatentDiff& out) const {
    const double n = static_cast<double>(groups_);
    // Influence of each group on delta; they sum to 0.
    std::vector<double> influence(groups_, 0.0);
    for (const Model& model : models_) {
      const double mean = model.mean(latent), scale = model.weight / static_cast<double>(model.stats->rows());
      for (std::size_t g = 0; g < groups_; ++g) influence[g] -= scale * mean * model.group_rows[g];
      for (std::size_t e = model.begin[latent]; e < model.begin[latent + 1]; ++e)
        influence[model.dense_of[e]] += scale * model.stats->group_sums()[e].sum;
    }
    double squares = 0;
    for (double value : influence) squares += value * value;
    const double error = std::sqrt(squares * n / (n - 1)), delta = out.delta[latent];
    out.standard_error[latent] = error;
    out.p_value[latent] = error > 0 ? student_p(delta / error, n - 1) : delta == 0 ? 1.0 : 0.0;
    if (!options_.resamples) return;
    std::vector<double> deltas(options_.resamples, 0.0), sums(options_.resamples);
    for (const Model& model : models_) {
      std::fill(sums.begin(), sums.end(), 0.0);
      for (std::size_t e = model.begin[latent]; e < model.begin[latent + 1]; ++e) {
        const double sum = model.stats->group_sums()[e].sum;
        const std::uint16_t* drawn = drawn_.data() + model.dense_of[e] * options_.resamples;
        for (std::size_t r = 0; r < options_.resamples; ++r) sums[r] += drawn[r] * sum;
      }
      // A draw may hold no row of a model; it says nothing then.
      for (std::size_t r = 0; r < options_.resamples; ++r)
        deltas[r] += model.resampled_rows[r] > 0 ? model.weight * sums[r] / model.resampled_rows[r] : kNaN;
    }
    deltas.erase(std::remove_if(deltas.begin(), deltas.end(), [](double v) { return std::isnan(v); }),
                 deltas.end());
    if (deltas.empty()) return;
    const double tail = (1 - options_.confidence) / 2;
    out.low[latent] = quantile(deltas, tail);
    out.high[latent] = quantile(deltas, 1 - tail);
  }

 private:
  std::vector<Model>& models_;
  const LatentDiffOptions& options_;
  std::size_t groups_ = 0;
  std::vector<std::uint16_t> drawn_;
};

void adjust(const std::vector<std::uint32_t>& alive, LatentDiff& diff) {
  std::vector<std::uint32_t> order = alive;
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return diff.p_value[a] != diff.p_value[b] ? diff.p_value[a] < diff.p_value[b] : a < b;
  });
  double least = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    least = std::min(least,
                     diff.p_value[order[i]] * static_cast<double>(order.size()) / static_cast<double>(i + 1));
    diff.q_value[order[i]] = least;
  }
}

}  // namespace

double student_p(double t, double degrees_of_freedom) {
  return regularised_beta(degrees_of_freedom / 2, 0.5, degrees_of_freedom / (degrees_of_freedom + t * t));
}

LatentDiff diff_latents(const LatentStats& before, const std::vector<const LatentStats*>& after,
                        const LatentDiffOptions& options) {
  const std::size_t latents = before.options().latents;
  require(!after.empty(), ErrorCode::invalid_argument, "diff: no model after");
  require(options.resamples <= 100000, ErrorCode::invalid_argument,
          "diff: " + std::to_string(options.resamples) + " resamples, expected at most 100000");
  require(options.confidence > 0 && options.confidence < 1, ErrorCode::invalid_argument,
          "diff: confidence " + std::to_string(options.confidence) + ", expected between 0 and 1");
  std::vector<Model> models(after.size() + 1);
  bool grouped = true;
  for (std::size_t m = 0; m < models.size(); ++m) {
    models[m].stats = m == 0 ? &before : after[m - 1];
    models[m].weight = m == 0 ? -1.0 : 1.0 / static_cast<double>(after.size());
    require(models[m].stats->options().latents == latents, ErrorCode::invalid_argument,
            "diff: statistics of " + std::to_string(models[m].stats->options().latents) + " and of " +
                std::to_string(latents) + " latents cannot be compared");
    require(models[m].stats->rows() > 0, ErrorCode::invalid_argument, "diff: statistics over no rows");
    grouped = grouped && models[m].stats->options().per_group;
  }

  LatentDiff diff;
  diff.delta.assign(latents, 0.0);
  for (auto* values :
       {&diff.effect_size, &diff.standard_error, &diff.low, &diff.high, &diff.p_value, &diff.q_value})
    values->assign(latents, kNaN);
  std::vector<std::uint32_t> alive;
  for (std::size_t l = 0; l < latents; ++l) {
    bool active = false;
    double variance = 0;
    for (const Model& model : models) {
      const double mean = model.mean(l), rows = static_cast<double>(model.stats->rows());
      active = active || model.stats->active_count()[l] > 0;
      diff.delta[l] += model.weight * mean;
      variance +=
          std::fabs(model.weight) / 2 * std::max(0.0, model.stats->sum_of_squares()[l] / rows - mean * mean);
    }
    if (!active) continue;
    alive.push_back(static_cast<std::uint32_t>(l));
    diff.effect_size[l] = variance > 0         ? diff.delta[l] / std::sqrt(variance)
                          : diff.delta[l] == 0 ? 0.0
                                               : kNaN;
  }
  diff.alive = alive.size();

  if (grouped) {
    const Clusters clusters(models, options);
    diff.groups = clusters.groups();
    if (diff.groups >= 2) {
      parallel_for(alive.size(), 16, [&](std::size_t begin, std::size_t end) {
        if (options.check) options.check();
        for (std::size_t i = begin; i < end; ++i) clusters.test(alive[i], diff);
      });
      adjust(alive, diff);
    }
  }

  diff.descending.resize(latents);
  std::iota(diff.descending.begin(), diff.descending.end(), 0u);
  diff.ascending = diff.descending;
  std::stable_sort(diff.descending.begin(), diff.descending.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return diff.delta[a] > diff.delta[b]; });
  std::stable_sort(diff.ascending.begin(), diff.ascending.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return diff.delta[a] < diff.delta[b]; });
  return diff;
}

}  // namespace personascope
