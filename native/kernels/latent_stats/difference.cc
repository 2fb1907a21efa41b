#include "native/kernels/latent_stats/difference.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <numeric>
#include <string>

#include "native/core/error.h"
#include "native/core/thread_pool.h"
#include "native/kernels/latent_stats/bootstrap.h"
#include "native/kernels/latent_stats/ranking.h"
#include "native/kernels/latent_stats/resample.h"
#include "native/kernels/latent_stats/student.h"

namespace personascope {

namespace {

constexpr std::size_t kForgotten = 4096;  // latents
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// One model's statistics with its groups numbered 0 ... groups - 1 in common with the other models.
struct Model {
  const LatentStats* stats = nullptr;
  double weight = 0;  // its share in delta; the model before has -1
  double rows = 0;
  const GroupSums* sums = nullptr;
  std::vector<double> group_rows;      // [groups]
  std::vector<double> resample_scale;  // [resamples]: weight / rows drawn
};

// Memory of one thread.
struct Scratch {
  std::vector<double> influence;  // [groups]
  std::vector<double> of_model;   // [groups]
  std::vector<GroupSum> entries;
  std::vector<double> sums, resampled, deltas, quantiles;
  std::vector<const std::uint16_t*> counts;
};

class Clusters {
 public:
  Clusters(std::vector<Model>& models, const LatentDiffOptions& options)
      : models_(models), options_(options) {
    std::map<std::uint32_t, std::uint32_t> number;
    for (const Model& model : models)
      for (const auto& [group, rows] : model.stats->group_rows()) number.emplace(group, 0);
    for (auto& [group, dense] : number) {
      dense = static_cast<std::uint32_t>(numbers_.size());
      numbers_.push_back(group);
    }
    for (Model& model : models) {
      model.sums = &model.stats->group_sums();
      model.group_rows.assign(groups(), 0);
      for (const auto& [group, rows] : model.stats->group_rows())
        model.group_rows[number[group]] = static_cast<double>(rows);
    }
    if (groups() < 2) return;
    if (options.resamples) draw();
    if (options.test == DiffTest::permutation)
      signs_ = draw_signs(groups(), options.permutations, options.seed);
  }
  std::size_t groups() const { return numbers_.size(); }

  void test(std::size_t latent, LatentDiff& out, Scratch& scratch) const {
    scratch.influence.assign(groups(), 0.0);
    if (table_.resamples) scratch.deltas.assign(table_.resamples, 0.0);
    const double n = static_cast<double>(groups());
    double welch_variance = 0, welch_denominator = 0;
    // The change that each group brings; without centring, for exchanging within it.
    std::vector<double>& change = scratch.of_model;
    if (options_.test == DiffTest::permutation) change.assign(groups(), 0.0);
    for (const Model& model : models_) {
      read(model, latent, scratch);
      const double scale = model.weight / model.rows, mean = model.stats->sum(latent) / model.rows;
      if (options_.test == DiffTest::welch) {
        std::vector<double>& own = scratch.of_model;
        own.assign(groups(), 0.0);
        centre(model, mean, scale, scratch, own);
        const double variance = sum_of_squares(own) * n / (n - 1);
        welch_variance += variance;
        welch_denominator += variance * variance / (n - 1);
      }
      if (options_.test == DiffTest::permutation)
        for (std::size_t e = 0; e < scratch.entries.size(); ++e)
          change[scratch.entries[e].group] += scale * scratch.entries[e].sum;
      centre(model, mean, scale, scratch, scratch.influence);
      if (table_.resamples) resample(model, scratch);
    }
    const double error = options_.test == DiffTest::welch
                             ? std::sqrt(welch_variance)
                             : std::sqrt(sum_of_squares(scratch.influence) * n / (n - 1));
    const double delta = out.delta[latent];
    out.standard_error[latent] = error;
    if (options_.test == DiffTest::permutation)
      out.p_value[latent] = permute(scratch);
    else if (error > 0)
      out.p_value[latent] = student_p(delta / error, options_.test == DiffTest::welch
                                                         ? welch_variance * welch_variance / welch_denominator
                                                         : n - 1);
    else
      out.p_value[latent] = delta == 0 ? 1.0 : 0.0;
    if (!table_.resamples) return;
    const double tail = (1 - options_.confidence) / 2;
    quantile_pair(scratch.deltas.data(), table_.resamples, tail, 1 - tail, out.low[latent], out.high[latent],
                  scratch.quantiles);
  }

  // Latents [first, last) are done with.
  void forget(std::size_t first, std::size_t last) const {
    for (const Model& model : models_) model.sums->forget(first, last);
  }

 private:
  void draw() {
    table_ = draw_bootstrap(groups(), options_.resamples, options_.seed);
    std::vector<bool> keep(table_.resamples, true);
    for (Model& model : models_) {
      model.resample_scale.assign(table_.resamples, 0.0);
      for (std::size_t g = 0; g < groups(); ++g)
        for (std::size_t r = 0; r < table_.resamples; ++r)
          model.resample_scale[r] += table_.row(g)[r] * model.group_rows[g];
      // A draw may hold no row of a model; it says nothing then.
      for (std::size_t r = 0; r < table_.resamples; ++r) keep[r] = keep[r] && model.resample_scale[r] > 0;
    }
    for (Model& model : models_) {
      std::size_t kept = 0;
      for (std::size_t r = 0; r < table_.resamples; ++r)
        if (keep[r]) model.resample_scale[kept++] = model.weight / model.resample_scale[r];
      model.resample_scale.resize(kept);
    }
    keep_resamples(table_, keep);
  }

  // The model's sums of one latent, their groups as common numbers.
  void read(const Model& model, std::size_t latent, Scratch& scratch) const {
    model.sums->of(latent, scratch.entries);
    std::size_t at = 0;
    for (GroupSum& entry : scratch.entries) {
      at = static_cast<std::size_t>(
          std::lower_bound(numbers_.begin() + static_cast<std::ptrdiff_t>(at), numbers_.end(), entry.group) -
          numbers_.begin());
      // Sums may lie in a file.
      if (at == numbers_.size() || numbers_[at] != entry.group)
        fail(ErrorCode::format, "diff: the sums per group changed while they were read");
      entry.group = static_cast<std::uint32_t>(at);
    }
  }

  // Adds the influence of each group on the model's share of delta; they sum to 0.
  void centre(const Model& model, double mean, double scale, const Scratch& scratch,
              std::vector<double>& influence) const {
    for (std::size_t g = 0; g < groups(); ++g) influence[g] -= scale * mean * model.group_rows[g];
    for (const GroupSum& entry : scratch.entries) influence[entry.group] += scale * entry.sum;
  }

  void resample(const Model& model, Scratch& scratch) const {
    sum_over(table_, scratch.entries.size(), scratch,
             [&](std::size_t e) { return std::pair(scratch.entries[e].sum, scratch.entries[e].group); });
    for (std::size_t r = 0; r < table_.resamples; ++r)
      scratch.deltas[r] += model.resample_scale[r] * scratch.resampled[r];
  }

  double permute(Scratch& scratch) const {
    const std::vector<double>& change = scratch.of_model;
    double total = 0;
    for (double one : change) total += one;
    std::size_t used = 0;
    sum_over(signs_, change.size(), scratch, [&](std::size_t g) { return std::pair(change[g], g); });
    // Equal up to rounding counts as equal: the sums run in another order.
    double size = 0;
    for (double one : change) size += std::fabs(one);
    const double least = std::fabs(total) - 1e-12 * size;
    for (std::size_t r = 0; r < signs_.resamples; ++r)
      used += std::fabs(2 * scratch.resampled[r] - total) >= least;
    return (1.0 + static_cast<double>(used)) / (1.0 + static_cast<double>(signs_.resamples));
  }

  // scratch.resampled = sums over a table's draws of the `count` (value, group) pairs.
  template <class Pair>
  void sum_over(const DrawTable& table, std::size_t count, Scratch& scratch, const Pair& pair) const {
    scratch.sums.resize(count);
    scratch.counts.resize(count);
    scratch.resampled.resize(table.stride);
    for (std::size_t e = 0; e < count; ++e) {
      const auto [value, group] = pair(e);
      scratch.sums[e] = value;
      scratch.counts[e] = table.row(group);
    }
    resample_variants().active()(
        {scratch.sums.data(), scratch.counts.data(), count, table.stride, scratch.resampled.data()});
  }

  static double sum_of_squares(const std::vector<double>& values) {
    double sum = 0;
    for (double value : values) sum += value * value;
    return sum;
  }

  std::vector<Model>& models_;
  const LatentDiffOptions& options_;
  std::vector<std::uint32_t> numbers_;  // [groups]: number of each group in the statistics, rising
  DrawTable table_, signs_;
};

void adjust(const std::vector<std::uint32_t>& alive, LatentDiff& diff) {
  std::vector<std::pair<double, std::uint32_t>> order;
  order.reserve(alive.size());
  for (const std::uint32_t latent : alive) order.emplace_back(diff.p_value[latent], latent);
  std::sort(order.begin(), order.end());
  double least = 1;
  for (std::size_t i = order.size(); i-- > 0;) {
    least = std::min(least, order[i].first * static_cast<double>(order.size()) / static_cast<double>(i + 1));
    diff.q_value[order[i].second] = least;
  }
}

}  // namespace

LatentDiff diff_latents(const LatentStats& before, const std::vector<const LatentStats*>& after,
                        const LatentDiffOptions& options) {
  const std::size_t latents = before.options().latents;
  require(!after.empty(), ErrorCode::invalid_argument, "diff: no model after");
  require(options.resamples <= 100000, ErrorCode::invalid_argument,
          "diff: " + std::to_string(options.resamples) + " resamples, expected at most 100000");
  require(options.permutations >= 1 && options.permutations <= 1000000, ErrorCode::invalid_argument,
          "diff: " + std::to_string(options.permutations) + " permutations, expected 1 to 1000000");
  require(options.confidence > 0 && options.confidence < 1, ErrorCode::invalid_argument,
          "diff: confidence " + std::to_string(options.confidence) + ", expected between 0 and 1");
  std::vector<Model> models(after.size() + 1);
  bool grouped = true;
  for (std::size_t m = 0; m < models.size(); ++m) {
    Model& model = models[m];
    model.stats = m == 0 ? &before : after[m - 1];
    model.weight = m == 0 ? -1.0 : 1.0 / static_cast<double>(after.size());
    require(model.stats->options().latents == latents, ErrorCode::invalid_argument,
            "diff: statistics of " + std::to_string(model.stats->options().latents) + " and of " +
                std::to_string(latents) + " latents cannot be compared");
    require(model.stats->rows() > 0, ErrorCode::invalid_argument, "diff: statistics over no rows");
    model.rows = static_cast<double>(model.stats->rows());
    grouped = grouped && model.stats->options().per_group;
  }

  LatentDiff diff;
  for (auto* values :
       {&diff.delta, &diff.mean_before, &diff.mean_after, &diff.share_before, &diff.share_after})
    values->assign(latents, 0.0);
  for (auto* values :
       {&diff.effect_size, &diff.standard_error, &diff.low, &diff.high, &diff.p_value, &diff.q_value})
    values->assign(latents, kNaN);
  parallel_for(latents, 4096, [&](std::size_t begin, std::size_t end) {
    for (std::size_t l = begin; l < end; ++l) {
      double variance = 0;
      for (std::size_t m = 0; m < models.size(); ++m) {
        const Model& model = models[m];
        const double mean = model.stats->sum(l) / model.rows, share = std::fabs(model.weight);
        diff.delta[l] += model.weight * mean;
        (m == 0 ? diff.mean_before : diff.mean_after)[l] += share * mean;
        (m == 0 ? diff.share_before : diff.share_after)[l] +=
            share * model.stats->active_count(l) / model.rows;
        variance += share / 2 * std::max(0.0, model.stats->sum_of_squares(l) / model.rows - mean * mean);
      }
      if (diff.share_before[l] == 0 && diff.share_after[l] == 0) continue;
      diff.effect_size[l] = variance > 0         ? diff.delta[l] / std::sqrt(variance)
                            : diff.delta[l] == 0 ? 0.0
                                                 : kNaN;
    }
  });
  std::vector<std::uint32_t> alive;
  for (std::size_t l = 0; l < latents; ++l)
    if (diff.share_before[l] > 0 || diff.share_after[l] > 0) alive.push_back(static_cast<std::uint32_t>(l));
  diff.alive = alive.size();

  if (grouped) {
    const Clusters clusters(models, options);
    diff.groups = clusters.groups();
    if (diff.groups >= 2) {
      std::atomic<std::size_t> done{0};
      parallel_for(alive.size(), 256, [&](std::size_t begin, std::size_t end) {
        Scratch scratch;
        for (std::size_t i = begin; i < end; ++i) clusters.test(alive[i], diff, scratch);
        // Now and then: giving pages back costs more than many small tests.
        const std::size_t first = begin / kForgotten * kForgotten;
        if (end == alive.size() || first < end / kForgotten * kForgotten)
          clusters.forget(alive[first], alive[end - 1] + 1);
        const std::size_t now = done += end - begin;
        if (options.progress) options.progress(now, alive.size());
      });
      adjust(alive, diff);
    }
  }
  diff.descending = ranking(diff.delta.data(), latents, true);
  diff.ascending = ranking(diff.delta.data(), latents, false);
  return diff;
}

}  // namespace personascope
