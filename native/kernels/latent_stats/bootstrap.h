// Draws of groups (prompts) with replacement, shared by all latents, and percentiles of what they give.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace personascope {

// How often each group was drawn in each resample, or its sign in each permutation.
struct DrawTable {
  std::size_t groups = 0, resamples = 0;
  std::size_t stride = 0;             // resamples, padded with zeros to whole blocks (resample.h)
  std::vector<std::uint16_t> counts;  // [groups, stride]
  const std::uint16_t* row(std::size_t group) const { return counts.data() + group * stride; }
};

// `groups` draws with replacement a resample. Throws invalid_argument where the table would pass 2^29
// entries.
DrawTable draw_bootstrap(std::size_t groups, std::size_t resamples, std::uint64_t seed);
// 1 for each group whose sign is kept, 0 where it is flipped: each with probability 1/2.
DrawTable draw_signs(std::size_t groups, std::size_t permutations, std::uint64_t seed);
// Leaves only the resamples for which keep[r] holds.
void keep_resamples(DrawTable& table, const std::vector<bool>& keep);

// Two quantiles of `values`, linear between order statistics (type 7 of Hyndman and Fan 1996); 0 < low_share
// <= high_share < 1, count >= 1. Reorders `values`; `scratch` is overwritten.
void quantile_pair(double* values, std::size_t count, double low_share, double high_share, double& low,
                   double& high, std::vector<double>& scratch);

}  // namespace personascope
