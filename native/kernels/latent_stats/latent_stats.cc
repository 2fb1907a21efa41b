#include "native/kernels/latent_stats/latent_stats.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/core/thread_pool.h"

namespace personascope {

namespace {

bool better(const LatentExample& a, const LatentExample& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}

}  // namespace

LatentStats::LatentStats(const LatentStatsOptions& options) : options_(options) {
  require(options.latents >= 1 && options.latents < (std::size_t{1} << 32), ErrorCode::invalid_argument,
          "latent statistics: " + std::to_string(options.latents) + " latents, expected 1 to 4294967295");
  require(options.examples <= 4096, ErrorCode::invalid_argument,
          "latent statistics: " + std::to_string(options.examples) + " examples, expected at most 4096");
  sum_.resize(options.latents);
  squares_.resize(options.latents);
  active_.resize(options.latents);
  max_.resize(options.latents);
  examples_.resize(options.latents * options.examples);
  if (options.examples) example_count_.resize(options.latents);
}

void LatentStats::add(const CodesView& codes, const std::uint32_t* groups, const double* ids) {
  require(groups || !(options_.distinct_groups || options_.per_group), ErrorCode::invalid_argument,
          "latent statistics: groups are asked for, but the rows have none");
  std::size_t pairs = 0;
  for (std::size_t t = 0; t < codes.tokens; ++t) {
    const std::size_t first = codes.begin(t), count = codes.count(t);
    pairs += count;
    for (std::size_t c = first; c < first + count; ++c) {
      if (codes.indices[c] >= options_.latents)
        fail(ErrorCode::invalid_argument, "latent statistics: row " + std::to_string(rows_ + t) +
                                              " has latent " + std::to_string(codes.indices[c]) + " of " +
                                              std::to_string(options_.latents));
      if (!std::isfinite(codes.values[c]))
        fail(ErrorCode::non_finite, "latent statistics: the value of latent " +
                                        std::to_string(codes.indices[c]) + " in row " +
                                        std::to_string(rows_ + t) + " is not finite");
    }
  }
  // Threads share the latents, not the rows: each latent's sums run over the rows in order.
  const std::size_t ranges = pairs < 32768 ? 1 : static_cast<std::size_t>(thread_count());
  const std::size_t length = (options_.latents + ranges - 1) / ranges;
  parallel_for(ranges, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r)
      add_range(codes, groups, ids, r * length, std::min(options_.latents, (r + 1) * length));
  });
  if (options_.per_group) {
    for (std::size_t t = 0; t < codes.tokens; ++t) {
      ++group_rows_[groups[t]];
      const std::size_t first = codes.begin(t), count = codes.count(t);
      for (std::size_t c = first; c < first + count; ++c)
        group_sums_.push_back({codes.indices[c], groups[t], codes.values[c]});
    }
    if (group_sums_.size() > 2 * sorted_ + (std::size_t{1} << 20)) consolidate();
  }
  rows_ += codes.tokens;
}

void LatentStats::add_range(const CodesView& codes, const std::uint32_t* groups, const double* ids,
                            std::size_t begin, std::size_t end) {
  for (std::size_t t = 0; t < codes.tokens; ++t) {
    const std::size_t first = codes.begin(t), count = codes.count(t);
    for (std::size_t c = first; c < first + count; ++c) {
      const std::size_t latent = codes.indices[c];
      if (latent < begin || latent >= end) continue;
      const float value = codes.values[c];
      sum_[latent] += value;
      squares_[latent] += static_cast<double>(value) * value;
      active_[latent] += value > 0;
      max_[latent] = std::max(max_[latent], value);
      if (options_.examples)
        add_example(latent, {value, groups ? groups[t] : 0, ids ? ids[t] : static_cast<double>(rows_ + t)});
    }
  }
}

void LatentStats::add_example(std::size_t latent, const LatentExample& example) {
  LatentExample* list = examples_.data() + latent * options_.examples;
  std::uint32_t& count = example_count_[latent];
  if (count == options_.examples && !better(example, list[count - 1])) return;
  std::size_t gap = count;  // the place that is free or given up
  if (options_.distinct_groups) {
    const auto same =
        std::find_if(list, list + count, [&](const auto& e) { return e.group == example.group; });
    gap = static_cast<std::size_t>(same - list);
    if (gap < count && !better(example, *same)) return;
  }
  if (gap == count) {
    if (count < options_.examples)
      ++count;
    else
      --gap;
  }
  for (; gap > 0 && better(example, list[gap - 1]); --gap) list[gap] = list[gap - 1];
  list[gap] = example;
}

void LatentStats::merge(const LatentStats& other) {
  require(other.options_.latents == options_.latents && other.options_.examples == options_.examples &&
              other.options_.distinct_groups == options_.distinct_groups &&
              other.options_.per_group == options_.per_group,
          ErrorCode::invalid_argument, "latent statistics with different options cannot be merged");
  for (std::size_t l = 0; l < options_.latents; ++l) {
    sum_[l] += other.sum_[l];
    squares_[l] += other.squares_[l];
    active_[l] += other.active_[l];
    max_[l] = std::max(max_[l], other.max_[l]);
    if (!options_.examples) continue;
    const std::size_t count = other.example_count_[l];  // merging with itself must not chase its own tail
    const std::vector<LatentExample> theirs(
        other.examples_.begin() + static_cast<std::ptrdiff_t>(l * options_.examples),
        other.examples_.begin() + static_cast<std::ptrdiff_t>(l * options_.examples + count));
    for (const auto& example : theirs) add_example(l, example);
  }
  rows_ += other.rows_;
  const auto their_rows = other.group_rows_;
  for (const auto& [group, rows] : their_rows) group_rows_[group] += rows;
  const auto their_sums = other.group_sums();
  group_sums_.insert(group_sums_.end(), their_sums.begin(), their_sums.end());
  consolidate();
}

std::vector<LatentExample> LatentStats::examples(std::size_t latent) const {
  require(latent < options_.latents, ErrorCode::invalid_argument,
          "latent " + std::to_string(latent) + " of " + std::to_string(options_.latents));
  if (!options_.examples) return {};
  const auto first = examples_.begin() + static_cast<std::ptrdiff_t>(latent * options_.examples);
  return {first, first + example_count_[latent]};
}

const std::vector<GroupSum>& LatentStats::group_sums() const {
  consolidate();
  return group_sums_;
}

void LatentStats::consolidate() const {
  if (sorted_ == group_sums_.size()) return;
  // Stable: pairs are summed in the order in which they came.
  std::stable_sort(group_sums_.begin(), group_sums_.end(), [](const GroupSum& a, const GroupSum& b) {
    return a.latent != b.latent ? a.latent < b.latent : a.group < b.group;
  });
  std::size_t kept = 0;
  for (std::size_t i = 0; i < group_sums_.size(); ++i) {
    if (kept && group_sums_[kept - 1].latent == group_sums_[i].latent &&
        group_sums_[kept - 1].group == group_sums_[i].group)
      group_sums_[kept - 1].sum += group_sums_[i].sum;
    else
      group_sums_[kept++] = group_sums_[i];
  }
  group_sums_.resize(kept);
  sorted_ = kept;
}

}  // namespace personascope
