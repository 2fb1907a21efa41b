#include "native/kernels/latent_stats/latent_stats.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/core/thread_pool.h"

namespace personascope {

namespace {

// 2^40 rows of values below 2^26 stay below the top of the window.
constexpr std::uint64_t kMostRows = std::uint64_t{1} << 40;

LatentStatsOptions checked(const LatentStatsOptions& options) {
  require(options.latents >= 1 && options.latents < (std::size_t{1} << 32), ErrorCode::invalid_argument,
          "latent statistics: " + std::to_string(options.latents) + " latents, expected 1 to 4294967295");
  return options;
}

bool same_options(const LatentStatsOptions& a, const LatentStatsOptions& b) {
  return a.latents == b.latents && a.examples == b.examples && a.distinct_groups == b.distinct_groups &&
         a.per_group == b.per_group && a.example_latents == b.example_latents;
}

}  // namespace

LatentStats::LatentStats(const LatentStatsOptions& options)
    : options_(checked(options)),
      totals_(options.latents),
      examples_(options.latents, options.examples, options.distinct_groups, options.example_latents),
      group_sums_(options.per_group ? options.latents : 0) {}

void LatentStats::add(const CodesView& codes, const std::uint32_t* groups, const double* ids) {
  require(groups || !(options_.distinct_groups || options_.per_group), ErrorCode::invalid_argument,
          "latent statistics: groups are asked for, but the rows have none");
  require(codes.tokens <= kMostRows - rows_, ErrorCode::invalid_argument,
          "latent statistics: more than 2^40 rows");
  std::size_t pairs = 0;
  for (std::size_t t = 0; t < codes.tokens; ++t) {
    const std::size_t first = codes.begin(t), count = codes.count(t);
    pairs += count;
    for (std::size_t c = first; c < first + count; ++c) {
      const auto place = [&] {
        return "latent " + std::to_string(codes.indices[c]) + " in row " + std::to_string(rows_ + t);
      };
      if (codes.indices[c] >= options_.latents)
        fail(ErrorCode::invalid_argument,
             "latent statistics: " + place() + ", expected fewer than " + std::to_string(options_.latents));
      if (!std::isfinite(codes.values[c]))
        fail(ErrorCode::non_finite, "latent statistics: the value of " + place() + " is not finite");
      if (codes.values[c] < 0)
        fail(ErrorCode::invalid_argument, "latent statistics: the value of " + place() + " is " +
                                              std::to_string(codes.values[c]) + ", expected none below 0");
    }
  }
  // Threads share the latents, not the rows: no two write to the same one.
  const std::size_t ranges = pairs < 32768 ? 1 : static_cast<std::size_t>(thread_count());
  const std::size_t length = (options_.latents + ranges - 1) / ranges;
  std::vector<std::vector<Spilled>> spilled(ranges);
  parallel_for(ranges, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r)
      add_range(codes, groups, ids, std::min(options_.latents, r * length),
                std::min(options_.latents, (r + 1) * length), spilled[r]);
  });
  for (const auto& range : spilled)
    for (const Spilled& one : range) {
      add_value(wide_[one.latent].sum, one.value);
      add_square(wide_[one.latent].squares, one.value);
    }
  if (options_.per_group) {
    for (std::size_t t = 0; t < codes.tokens; ++t) {
      ++group_rows_[groups[t]];
      const std::size_t first = codes.begin(t), count = codes.count(t);
      for (std::size_t c = first; c < first + count; ++c)
        if (codes.values[c] > 0) group_sums_.add(codes.indices[c], groups[t], codes.values[c]);
    }
    group_sums_.tidy();
  }
  rows_ += codes.tokens;
}

void LatentStats::add_range(const CodesView& codes, const std::uint32_t* groups, const double* ids,
                            std::size_t begin, std::size_t end, std::vector<Spilled>& spilled) {
  // Totals lie at random places: those of the codes to come are fetched while these are added.
  constexpr std::size_t kAhead = 32;
  const auto fetch = [&](std::size_t code) {
    const std::size_t latent = codes.indices[code];
    if (latent >= begin && latent < end) __builtin_prefetch(&totals_[latent], 1);
  };
  for (std::size_t t = 0; t < codes.tokens; ++t) {
    const std::size_t first = codes.begin(t), count = codes.count(t);
    const std::size_t next = t + 1 < codes.tokens ? std::min(kAhead, codes.count(t + 1)) : 0;
    for (std::size_t c = 0; c < next; ++c) fetch(codes.begin(t + 1) + c);
    for (std::size_t c = first; c < first + count; ++c) {
      if (c + kAhead < first + count) fetch(c + kAhead);
      const std::size_t latent = codes.indices[c];
      const float value = codes.values[c];
      if (latent < begin || latent >= end || !(value > 0)) continue;
      LatentTotals& totals = totals_[latent];
      if (LatentTotals::fits(value))
        totals.add(value);
      else
        spilled.push_back({codes.indices[c], value});
      ++totals.active;
      totals.max = std::max(totals.max, value);
      if (options_.examples)
        examples_.add(latent, {value, groups ? groups[t] : 0, ids ? ids[t] : static_cast<double>(rows_ + t)});
    }
  }
}

void LatentStats::merge(const LatentStats& other) {
  require(same_options(options_, other.options_), ErrorCode::invalid_argument,
          "latent statistics with different options cannot be merged");
  require(other.rows_ <= kMostRows - rows_, ErrorCode::invalid_argument,
          "latent statistics: more than 2^40 rows");
  if (&other == this) return merge(LatentStats(other));
  for (std::size_t l = 0; l < options_.latents; ++l) {
    LatentTotals& mine = totals_[l];
    const LatentTotals& theirs = other.totals_[l];
    for (std::size_t i = 0; i < LatentTotals::kSumLimbs; ++i)
      add_shifted(mine.sum.data(), LatentTotals::kSumLimbs, theirs.sum[i], static_cast<unsigned>(64 * i));
    for (std::size_t i = 0; i < LatentTotals::kSquaresLimbs; ++i)
      add_shifted(mine.squares.data(), LatentTotals::kSquaresLimbs, theirs.squares[i],
                  static_cast<unsigned>(64 * i));
    mine.active += theirs.active;
    mine.max = std::max(mine.max, theirs.max);
  }
  for (const auto& [latent, totals] : other.wide_) {
    WideTotals& mine = wide_[latent];
    mine.sum.add(totals.sum.limbs.data(), WideSum::kLimbs, WideSum::kUnit);
    mine.squares.add(totals.squares.limbs.data(), WideSum::kLimbs, WideSum::kUnit);
  }
  examples_.merge(other.examples_);
  rows_ += other.rows_;
  for (const auto& [group, rows] : other.group_rows_) group_rows_[group] += rows;
  if (options_.per_group) group_sums_.merge(other.group_sums_);
}

double LatentStats::sum(std::size_t latent) const {
  const auto& own = totals_[latent].sum;
  const auto wide = wide_.empty() ? wide_.end() : wide_.find(static_cast<std::uint32_t>(latent));
  if (wide == wide_.end()) return round_fixed(own.data(), own.size(), LatentTotals::kSumUnit);
  WideSum total = wide->second.sum;
  total.add(own.data(), own.size(), LatentTotals::kSumUnit);
  return total.value();
}

double LatentStats::sum_of_squares(std::size_t latent) const {
  const auto& own = totals_[latent].squares;
  const auto wide = wide_.empty() ? wide_.end() : wide_.find(static_cast<std::uint32_t>(latent));
  if (wide == wide_.end()) return round_fixed(own.data(), own.size(), LatentTotals::kSquaresUnit);
  WideSum total = wide->second.squares;
  total.add(own.data(), own.size(), LatentTotals::kSquaresUnit);
  return total.value();
}

const GroupSums& LatentStats::group_sums() const {
  group_sums_.settle();
  return group_sums_;
}

}  // namespace personascope
