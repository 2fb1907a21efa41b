#include "native/kernels/latent_stats/bootstrap.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/kernels/latent_stats/resample.h"

namespace personascope {

namespace {

DrawTable table_of(std::size_t groups, std::size_t resamples) {
  DrawTable table;
  table.groups = groups;
  table.resamples = resamples;
  table.stride = (resamples + kResampleBlock - 1) / kResampleBlock * kResampleBlock;
  require(groups <= (std::size_t{1} << 29) / std::max<std::size_t>(table.stride, 1),
          ErrorCode::invalid_argument,
          "diff: " + std::to_string(groups) + " groups x " + std::to_string(resamples) +
              " resamples is more than 2^29; ask for fewer resamples");
  table.counts.resize(groups * table.stride);
  return table;
}

// The order statistic `rank` (from 0) of the values, and the next one where `next`; by way of the values on
// its side of a pivot where a sample says that they are few.
struct OrderStatistics {
  double at, next;
};

OrderStatistics select(double* values, std::size_t count, std::size_t rank, bool next) {
  std::nth_element(values, values + rank, values + count);
  const double at = values[rank];
  return {at, next ? *std::min_element(values + rank + 1, values + count) : at};
}

}  // namespace

DrawTable draw_bootstrap(std::size_t groups, std::size_t resamples, std::uint64_t seed) {
  DrawTable table = table_of(groups, resamples);
  parallel_for(resamples, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const Philox random(seed, r);
      for (std::size_t i = 0; i < groups; ++i) {
        const auto group = static_cast<std::size_t>(random.uniform(i) * static_cast<double>(groups));
        std::uint16_t& count = table.counts[group * table.stride + r];
        if (count < 65535) ++count;  // as good as never: one group 65536 times in one resample
      }
    }
  });
  return table;
}

DrawTable draw_signs(std::size_t groups, std::size_t permutations, std::uint64_t seed) {
  DrawTable table = table_of(groups, permutations);
  constexpr std::uint64_t kStream = std::uint64_t{1} << 32;  // apart from the bootstrap's draws
  parallel_for(permutations, 16, [&](std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const Philox random(seed, kStream + r);
      for (std::size_t g = 0; g < groups; ++g)
        table.counts[g * table.stride + r] = random.uniform(g) < 0.5 ? 1 : 0;
    }
  });
  return table;
}

void keep_resamples(DrawTable& table, const std::vector<bool>& keep) {
  std::size_t kept = 0;
  for (std::size_t r = 0; r < table.resamples; ++r) {
    if (!keep[r]) continue;
    for (std::size_t g = 0; g < table.groups; ++g)
      table.counts[g * table.stride + kept] = table.counts[g * table.stride + r];
    ++kept;
  }
  for (std::size_t g = 0; g < table.groups; ++g)
    std::fill(table.counts.begin() + static_cast<std::ptrdiff_t>(g * table.stride + kept),
              table.counts.begin() + static_cast<std::ptrdiff_t>((g + 1) * table.stride), std::uint16_t{0});
  table.resamples = kept;
}

void quantile_pair(double* values, std::size_t count, double low_share, double high_share, double& low,
                   double& high, std::vector<double>& scratch) {
  const auto interpolate = [count](double share, const auto& order_statistics) {
    const double at = share * static_cast<double>(count - 1), below = std::floor(at), part = at - below;
    const auto [value, next] = order_statistics(static_cast<std::size_t>(below), part > 0);
    return part > 0 ? value + part * (next - value) : value;
  };
  constexpr std::size_t kSample = 64;
  if (count < 4 * kSample) {
    const auto direct = [&](std::size_t rank, bool next) { return select(values, count, rank, next); };
    low = interpolate(low_share, direct);
    high = interpolate(high_share, direct);
    return;
  }
  // Tails are short: a sorted sample gives a pivot that leaves little more than the tail to be searched.
  std::array<double, kSample> sample;
  for (std::size_t i = 0; i < kSample; ++i) sample[i] = values[i * count / kSample];
  std::sort(sample.begin(), sample.end());
  scratch.resize(count);
  const auto margin = [](double share) { return static_cast<std::size_t>(share * kSample) + 4; };
  low = interpolate(low_share, [&](std::size_t rank, bool next) {
    const double pivot = sample[std::min(kSample - 1, margin(low_share))];
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; ++i) {
      scratch[found] = values[i];
      found += values[i] <= pivot;
    }
    return rank + 1 < found ? select(scratch.data(), found, rank, next) : select(values, count, rank, next);
  });
  high = interpolate(high_share, [&](std::size_t rank, bool next) {
    const double pivot = sample[kSample - 1 - std::min(kSample - 1, margin(1 - high_share))];
    std::size_t found = 0;
    for (std::size_t i = 0; i < count; ++i) {
      scratch[found] = values[i];
      found += values[i] >= pivot;
    }
    const std::size_t skipped = count - found;
    return rank >= skipped ? select(scratch.data(), found, rank - skipped, next)
                           : select(values, count, rank, next);
  });
}

}  // namespace personascope
