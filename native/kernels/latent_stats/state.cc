// Latent statistics as plain arrays and back.
#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/kernels/latent_stats/latent_stats.h"

namespace personascope {

namespace {

void sound(bool holds, const char* what) {
  if (!holds) fail(ErrorCode::format, std::string("latent statistics: ") + what);
}

// What is wrong is put into words only where it is: there may be millions of latents.
template <class Say>
void sound(bool holds, const Say& say) {
  if (!holds) sound(false, say().c_str());
}

template <class T>
void sized(const std::vector<T>& values, std::size_t expected, const char* name) {
  sound(values.size() == expected, [&] {
    return std::string(name) + ": found " + std::to_string(values.size()) + " values, expected " +
           std::to_string(expected);
  });
}

template <std::size_t Limbs>
bool zero(const std::array<std::uint64_t, Limbs>& limbs) {
  return std::all_of(limbs.begin(), limbs.end(), [](std::uint64_t limb) { return limb == 0; });
}

}  // namespace

LatentStatsState LatentStats::state() const {
  const std::size_t n = options_.latents;
  LatentStatsState state;
  state.rows = rows_;
  state.sum.reserve(n * LatentTotals::kSumLimbs);
  state.squares.reserve(n * LatentTotals::kSquaresLimbs);
  state.active.reserve(n);
  state.max.reserve(n);
  for (std::size_t l = 0; l < n; ++l) {
    const LatentTotals totals = records_[l].totals();
    state.sum.insert(state.sum.end(), totals.sum.begin(), totals.sum.end());
    state.squares.insert(state.squares.end(), totals.squares.begin(), totals.squares.end());
    state.active.push_back(records_[l].active);
    state.max.push_back(records_[l].max);
  }
  for (const auto& [latent, totals] : wide_) {
    state.wide_latents.push_back(latent);
    state.wide_sums.insert(state.wide_sums.end(), totals.sum.limbs.begin(), totals.sum.limbs.end());
    state.wide_squares.insert(state.wide_squares.end(), totals.squares.limbs.begin(),
                              totals.squares.limbs.end());
  }
  for (const auto& [group, rows] : group_rows_) {
    state.groups.push_back(group);
    state.group_rows.push_back(rows);
  }
  if (options_.per_group) {
    GroupParts sums = group_sums().parts();
    state.part_begin = std::move(sums.begin);
    state.part_groups = std::move(sums.groups);
    state.parts = std::move(sums.parts);
  }
  state.example_counts = examples_.used();
  for (const LatentExample& one : examples_.entries()) {
    state.example_values.push_back(one.value);
    state.example_groups.push_back(one.group);
    state.example_ids.push_back(one.id);
  }
  return state;
}

LatentStats::LatentStats(const LatentStatsOptions& options, LatentStatsState state) : LatentStats(options) {
  const std::size_t n = options_.latents, wide = state.wide_latents.size();
  sound(state.rows <= std::uint64_t{1} << 40,
        [&] { return std::to_string(state.rows) + " rows, expected at most 2^40"; });
  rows_ = state.rows;
  sized(state.sum, n * LatentTotals::kSumLimbs, "sums");
  sized(state.squares, n * LatentTotals::kSquaresLimbs, "sums of squares");
  sized(state.active, n, "active counts");
  sized(state.max, n, "maxima");
  sized(state.wide_sums, wide * WideSum::kLimbs, "wide sums");
  sized(state.wide_squares, wide * WideSum::kLimbs, "wide sums of squares");
  for (std::size_t w = 0; w < wide; ++w) {
    const std::uint32_t latent = state.wide_latents[w];
    sound(latent < n && (w == 0 || latent > state.wide_latents[w - 1]), "wide latents do not rise");
    WideTotals& totals = wide_[latent];
    std::copy_n(state.wide_sums.begin() + static_cast<std::ptrdiff_t>(w * WideSum::kLimbs), WideSum::kLimbs,
                totals.sum.limbs.begin());
    std::copy_n(state.wide_squares.begin() + static_cast<std::ptrdiff_t>(w * WideSum::kLimbs),
                WideSum::kLimbs, totals.squares.limbs.begin());
    // Far above what 2^40 finite values can reach: room for merging without an overflow.
    sound(totals.sum.limbs.back() >> 40 == 0 && totals.squares.limbs.back() >> 40 == 0,
          [&] { return "the sum of latent " + std::to_string(latent) + " is too large"; });
  }
  for (std::size_t l = 0; l < n; ++l) {
    LatentTotals totals;
    std::copy_n(state.sum.begin() + static_cast<std::ptrdiff_t>(l * LatentTotals::kSumLimbs),
                LatentTotals::kSumLimbs, totals.sum.begin());
    std::copy_n(state.squares.begin() + static_cast<std::ptrdiff_t>(l * LatentTotals::kSquaresLimbs),
                LatentTotals::kSquaresLimbs, totals.squares.begin());
    LatentRecord& record = records_[l];
    record.active = state.active[l];
    record.max = state.max[l];
    const auto wrong = [l](const char* before, const char* after) {
      return [=] { return std::string(before).append("latent ").append(std::to_string(l)).append(after); };
    };
    sound(record.active <= rows_, wrong("", " active in more rows than there are"));
    sound(std::isfinite(record.max) && record.max >= 0 && (record.max > 0) == (record.active > 0),
          wrong("the maximum of ", " does not fit its count"));
    if (record.active == 0) {
      sound(zero(totals.sum) && zero(totals.squares) && !wide_.contains(static_cast<std::uint32_t>(l)),
            wrong("", " has a sum, but was never active"));
    } else {
      // Values that fit are below 2^76 units, their squares below 2^152.
      sound(totals.sum[1] >> 12 < record.active && totals.squares[2] >> 24 < record.active,
            wrong("the sum of ", " does not fit its count"));
    }
    record.set_totals(totals);
  }
  sized(state.group_rows, state.groups.size(), "rows of groups");
  sound(options_.per_group || state.groups.empty(), "groups where none were asked for");
  std::uint64_t grouped = 0;
  for (std::size_t g = 0; g < state.groups.size(); ++g) {
    sound(g == 0 || state.groups[g] > state.groups[g - 1], "groups do not rise");
    sound(state.group_rows[g] >= 1 && state.group_rows[g] <= rows_ - grouped,
          "groups have more rows than there are");
    grouped += state.group_rows[g];
    group_rows_[state.groups[g]] = state.group_rows[g];
  }
  if (options_.per_group) {
    sound(grouped == rows_, [&] {
      return "groups have " + std::to_string(grouped) + " of " + std::to_string(rows_) + " rows";
    });
    group_sums_.restore({std::move(state.part_begin), std::move(state.part_groups), std::move(state.parts)},
                        state.groups);
  } else {
    sound(state.part_begin.empty() && state.part_groups.empty() && state.parts.empty(),
          "sums per group where none were asked for");
  }
  sized(state.example_groups, state.example_values.size(), "groups of examples");
  sized(state.example_ids, state.example_values.size(), "ids of examples");
  std::vector<LatentExample> entries(state.example_values.size());
  for (std::size_t i = 0; i < entries.size(); ++i)
    entries[i] = {state.example_values[i], state.example_groups[i], state.example_ids[i]};
  examples_.restore(std::move(entries), std::move(state.example_counts));
}

}  // namespace personascope
