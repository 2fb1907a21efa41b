// What changed between two models: per latent the difference of mean activation, its size, and how sure it is
// over the choice of prompts.
//
//   delta        mean over the `after` models of (their mean activation) - mean activation before
//   effect size  delta / sqrt((variance before + mean variance after) / 2), variances over rows
//   interval     percentile bootstrap: prompts (groups) are drawn with replacement, the same draw for all
//                models, each drawn prompt bringing all its rows
//   p            two-sided, by one of
//                paired       Student's t with (groups - 1) degrees of freedom on delta / standard error; the
//                             standard error is clustered by group (linearised ratio of sums)
//                welch        Welch's t: groups of different models taken as independent, unequal variances
//                permutation  before and after exchanged within groups at random: share of the permutations
//                             (and the data themselves) whose change is at least as large
//   q            Benjamini and Hochberg (1995) over the alive latents (active in any of the models)
//
// Latents never active have delta 0 and NaN for effect size, error, interval, p and q; without per-group
// sums, or with fewer than two groups, interval, p and q are NaN. Groups of equal number are the same prompt
// in every model.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "native/kernels/latent_stats/latent_stats.h"

namespace personascope {

enum class DiffTest { paired, welch, permutation };

struct LatentDiffOptions {
  std::size_t resamples = 2000;  // 0: no interval; at most 100000
  double confidence = 0.95;
  DiffTest test = DiffTest::paired;
  std::size_t permutations = 10000;  // at most 1000000
  std::uint64_t seed = 0;
  // Called between pieces of work from any thread with the latents done; may throw.
  std::function<void(std::size_t done, std::size_t total)> progress;
};

struct LatentDiff {
  // [latents]; means are activations over all rows, shares are rows active / rows; `after` averaged over
  // models
  std::vector<double> delta, effect_size, standard_error, low, high, p_value, q_value;
  std::vector<double> mean_before, mean_after, share_before, share_after;
  std::vector<std::uint32_t> descending, ascending;  // latents by delta; equal ones by lower index
  std::size_t groups = 0, alive = 0;
};

// Throws invalid_argument unless all statistics have the same latents and at least one row.
LatentDiff diff_latents(const LatentStats& before, const std::vector<const LatentStats*>& after,
                        const LatentDiffOptions& options);

}  // namespace personascope
