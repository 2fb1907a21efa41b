#include "native/kernels/latent_stats/latent_stats.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/core/thread_pool.h"
#include "native/kernels/latent_stats/accumulate.h"

namespace personascope {

namespace {

constexpr std::uint64_t kMostRows = LatentRecord::kMostCodes;
constexpr std::size_t kRowsAtOnce = 256;  // of one thread, when codes are checked
constexpr std::size_t kGathered = 4096;   // codes handed to the kernel at once: they stay in the L1 cache
constexpr std::size_t kPiece = 512;       // gathered from one place

// The bits of values >= 0 rise with them.
constexpr auto kLeastFitting = std::bit_cast<std::uint32_t>(0x1p-27f);
constexpr auto kFittingBits = std::bit_cast<std::uint32_t>(0x1p26f) - kLeastFitting;

// Calls visit(first, last) for the codes of rows [begin, end), of rows that lie side by side at once.
template <class Visit>
void for_each_run(const CodesView& codes, std::size_t begin, std::size_t end, const Visit& visit) {
  for (std::size_t t = begin; t < end;) {
    const std::size_t first = codes.begin(t);
    std::size_t last = first + codes.count(t);
    for (++t; t < end && codes.begin(t) == last; ++t) last += codes.count(t);
    visit(first, last);
  }
}

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
      records_(options.latents),
      examples_(options.latents, options.examples, options.distinct_groups, options.example_latents),
      group_sums_(options.per_group ? options.latents : 0) {}

LatentStats::Checked LatentStats::check(const CodesView& codes) const {
  std::atomic<std::size_t> pairs{0};
  std::atomic<bool> good{true}, fit{true};
  parallel_for(codes.tokens, kRowsAtOnce, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t)
      if (codes.count(t) > LatentRecord::kMostUnsettled) good = false;
    for_each_run(codes, begin, end, [&](std::size_t first, std::size_t last) {
      pairs += last - first;
      // Without branches, so that compilers take many at once.
      const std::uint32_t most = static_cast<std::uint32_t>(options_.latents - 1);
      std::uint32_t bad = 0, odd = 0;
      for (std::size_t c = first; c < last; ++c) {
        const auto bits = std::bit_cast<std::uint32_t>(codes.values[c]);
        bad |= static_cast<std::uint32_t>(codes.indices[c] > most);
        odd |= static_cast<std::uint32_t>(bits - kLeastFitting >= kFittingBits);
      }
      if (odd) {
        fit = false;
        for (std::size_t c = first; c < last; ++c)
          bad |= static_cast<std::uint32_t>(!(codes.values[c] >= 0 && std::isfinite(codes.values[c])));
      }
      if (bad) good = false;
    });
  });
  if (good) return {pairs, fit};
  for (std::size_t t = 0; t < codes.tokens; ++t) {
    const std::size_t first = codes.begin(t), count = codes.count(t);
    const auto row = [&] { return "row " + std::to_string(rows_ + t); };
    if (count > LatentRecord::kMostUnsettled)
      fail(ErrorCode::invalid_argument, "latent statistics: " + row() + " has " + std::to_string(count) +
                                            " codes, expected at most " +
                                            std::to_string(LatentRecord::kMostUnsettled));
    for (std::size_t c = first; c < first + count; ++c) {
      const auto place = [&] { return "latent " + std::to_string(codes.indices[c]) + " in " + row(); };
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
  fail(ErrorCode::internal, "latent statistics: codes changed while they were read");
}

void LatentStats::check_room(const std::function<std::uint64_t(std::size_t)>& more) const {
  for (std::size_t l = 0; l < options_.latents; ++l)
    if (records_[l].active + more(l) > LatentRecord::kMostCodes)
      fail(ErrorCode::invalid_argument,
           "latent statistics: latent " + std::to_string(l) + " active more than 2^40 times");
}

void LatentStats::add(const CodesView& codes, const std::uint32_t* groups, const double* ids) {
  require(groups || !(options_.distinct_groups || options_.per_group), ErrorCode::invalid_argument,
          "latent statistics: groups are asked for, but the rows have none");
  require(codes.tokens <= kMostRows - rows_, ErrorCode::invalid_argument,
          "latent statistics: more than 2^40 rows");
  const auto [pairs, fit] = check(codes);
  if (unsettled_ + pairs > LatentRecord::kMostUnsettled)
    check_room([count = pairs](std::size_t) { return count; });
  // Threads share the latents, not the rows: no two write to the same one.
  const std::size_t ranges = pairs < 32768 ? 1 : static_cast<std::size_t>(thread_count());
  const std::size_t length = (options_.latents + ranges - 1) / ranges;
  std::vector<std::vector<Spilled>> spilled(ranges);
  for (std::size_t first = 0; first < codes.tokens;) {
    // As many rows as the records take without carrying.
    std::size_t last = first;
    if (unsettled_ + codes.count(first) > LatentRecord::kMostUnsettled) settle();
    while (last < codes.tokens && unsettled_ + codes.count(last) <= LatentRecord::kMostUnsettled)
      unsettled_ += codes.count(last++);
    if (ranges == 1 && fit) {
      add_all(codes, first, last);
    } else {
      parallel_for(ranges, 1, [&](std::size_t begin, std::size_t end) {
        for (std::size_t r = begin; r < end; ++r)
          add_range(codes, first, last, std::min(options_.latents, r * length),
                    std::min(options_.latents, (r + 1) * length), spilled[r]);
      });
    }
    first = last;
  }
  for (const auto& range : spilled)
    for (const Spilled& one : range) {
      add_value(wide_[one.latent].sum, one.value);
      add_square(wide_[one.latent].squares, one.value);
    }
  if (options_.examples)
    parallel_for(ranges, 1, [&](std::size_t begin, std::size_t end) {
      add_examples(codes, groups, ids, std::min(options_.latents, begin * length),
                   std::min(options_.latents, end * length));
    });
  if (options_.per_group) {
    std::uint64_t* rows = nullptr;  // of the last group: rows of one mostly come together
    for (std::size_t t = 0; t < codes.tokens; ++t) {
      if (!rows || groups[t] != groups[t - 1]) rows = &group_rows_[groups[t]];
      ++*rows;
      const std::size_t first = codes.begin(t), count = codes.count(t);
      for (std::size_t c = first; c < first + count; ++c)
        if (codes.values[c] > 0) group_sums_.add(codes.indices[c], groups[t], codes.values[c]);
    }
    group_sums_.tidy();
  }
  rows_ += codes.tokens;
}

void LatentStats::settle() {
  parallel_for(options_.latents, 4096, [&](std::size_t begin, std::size_t end) {
    for (std::size_t l = begin; l < end; ++l) records_[l].settle();
  });
  unsettled_ = 0;
}

// Codes for the kernel, gathered from here and there.
class LatentStats::Gathered {
 public:
  explicit Gathered(LatentRecord* records) {
    args_.records = records;
    args_.latents = latents_;
    args_.values = values_;
  }
  // Calls fill(latents, values), which writes at most kPiece codes and returns their number.
  template <class Fill>
  void add(const Fill& fill) {
    if (args_.count + kPiece > kGathered) flush();
    args_.count += fill(latents_ + args_.count, values_ + args_.count);
  }
  void flush() {
    accumulate_(args_);
    args_.count = 0;
  }

 private:
  AccumulateKernel accumulate_ = accumulate_variants().active();
  AccumulateArgs args_;
  std::uint32_t latents_[kGathered];
  float values_[kGathered];
};

void LatentStats::add_all(const CodesView& codes, std::size_t first_row, std::size_t last_row) {
  const AccumulateKernel accumulate = accumulate_variants().active();
  Gathered gathered(records_.data());
  for_each_run(codes, first_row, last_row, [&](std::size_t first, std::size_t last) {
    if (last - first >= kGathered) {
      AccumulateArgs args;
      args.records = records_.data();
      args.latents = codes.indices + first;
      args.values = codes.values + first;
      args.count = last - first;
      return accumulate(args);
    }
    for (; first < last; first += kPiece)
      gathered.add([&](std::uint32_t* latents, float* values) {
        const std::size_t count = std::min(last - first, kPiece);
        std::copy_n(codes.indices + first, count, latents);
        std::copy_n(codes.values + first, count, values);
        return count;
      });
  });
  gathered.flush();
}

void LatentStats::add_range(const CodesView& codes, std::size_t first_row, std::size_t last_row,
                            std::size_t begin, std::size_t end, std::vector<Spilled>& spilled) {
  const auto least = static_cast<std::uint32_t>(begin), length = static_cast<std::uint32_t>(end - begin);
  Gathered gathered(records_.data());
  for_each_run(codes, first_row, last_row, [&](std::size_t first, std::size_t run_end) {
    for (; first < run_end; first += kPiece) {
      const std::size_t last = std::min(run_end, first + kPiece);
      bool some_odd = false;
      gathered.add([&](std::uint32_t* latents, float* values) {
        std::size_t count = 0;
        for (std::size_t c = first; c < last; ++c) {
          const bool mine = codes.indices[c] - least < length;
          const bool fits = std::bit_cast<std::uint32_t>(codes.values[c]) - kLeastFitting < kFittingBits;
          latents[count] = codes.indices[c];
          values[count] = codes.values[c];
          count += static_cast<std::size_t>(mine & fits);
          some_odd |= mine & !fits;
        }
        return count;
      });
      if (!some_odd) continue;
      for (std::size_t c = first; c < last; ++c) {
        const float value = codes.values[c];
        if (codes.indices[c] - least >= length || LatentTotals::fits(value) || !(value > 0)) continue;
        spilled.push_back({codes.indices[c], value});
        LatentRecord& record = records_[codes.indices[c]];
        ++record.active;
        record.max = std::max(record.max, value);
      }
    }
  });
  gathered.flush();
}

void LatentStats::add_examples(const CodesView& codes, const std::uint32_t* groups, const double* ids,
                               std::size_t begin, std::size_t end) {
  for (std::size_t t = 0; t < codes.tokens; ++t) {
    const std::size_t first = codes.begin(t), count = codes.count(t);
    for (std::size_t c = first; c < first + count; ++c) {
      const std::size_t latent = codes.indices[c];
      if (latent < begin || latent >= end || !(codes.values[c] > 0)) continue;
      examples_.add(latent,
                    {codes.values[c], groups ? groups[t] : 0, ids ? ids[t] : static_cast<double>(rows_ + t)});
    }
  }
}

void LatentStats::merge(const LatentStats& other) {
  require(same_options(options_, other.options_), ErrorCode::invalid_argument,
          "latent statistics with different options cannot be merged");
  require(other.rows_ <= kMostRows - rows_, ErrorCode::invalid_argument,
          "latent statistics: more than 2^40 rows");
  check_room([&](std::size_t l) { return other.records_[l].active; });
  if (&other == this) return merge(LatentStats(other));
  for (std::size_t l = 0; l < options_.latents; ++l) {
    LatentRecord& mine = records_[l];
    const LatentRecord& theirs = other.records_[l];
    if (theirs.active == 0) continue;
    LatentTotals totals = mine.totals();
    totals.add(theirs.totals());
    mine.set_totals(totals);
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

// What the window holds, and what did not fit it.
template <std::size_t Limbs>
double LatentStats::total(std::size_t latent, const std::array<std::uint64_t, Limbs>& own, int unit,
                          WideSum WideTotals::* which) const {
  const auto wide = wide_.empty() ? wide_.end() : wide_.find(static_cast<std::uint32_t>(latent));
  if (wide == wide_.end()) return round_fixed(own.data(), own.size(), unit);
  WideSum total = wide->second.*which;
  total.add(own.data(), own.size(), unit);
  return total.value();
}

double LatentStats::sum(std::size_t latent) const {
  return total(latent, records_[latent].totals().sum, LatentTotals::kSumUnit, &WideTotals::sum);
}

double LatentStats::sum_of_squares(std::size_t latent) const {
  return total(latent, records_[latent].totals().squares, LatentTotals::kSquaresUnit, &WideTotals::squares);
}

const GroupSums& LatentStats::group_sums() const {
  group_sums_.settle();
  return group_sums_;
}

}  // namespace personascope
