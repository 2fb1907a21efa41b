// Statistics per latent over a stream of sparse codes: rows seen, sum, sum of squares, rows in which it was
// active, maximum, and where asked the rows of largest value and the sums per group (a group is a prompt or a
// document). Dense in latents, never in rows x latents.
//
// Sums are exact (exact_sum.h) and rounded when they are read: statistics over the same rows are the same
// bits whatever the order of the rows, the batches, the number of threads, and the parts that were merged.
// Accumulation is a scatter to random places in memory (accumulate.h), bound by its bandwidth.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "native/core/aligned.h"
#include "native/kernels/decode/codes.h"
#include "native/kernels/latent_stats/exact_sum.h"
#include "native/kernels/latent_stats/examples.h"
#include "native/kernels/latent_stats/group_sums.h"
#include "native/kernels/latent_stats/latent_record.h"

namespace personascope {

struct LatentStatsOptions {
  std::size_t latents = 0;
  std::size_t examples = 0;                         // rows of largest value kept a latent, at most 4096
  bool distinct_groups = false;                     // of each group only its best row is kept as an example
  bool per_group = false;                           // keep sums per (group, latent), sparsely
  std::vector<std::uint32_t> example_latents = {};  // rising; empty: examples of all latents
};

// Everything a LatentStats knows, as plain arrays: equal statistics give equal arrays. n latents, w latents
// with values outside the window, g groups, p parts of group sums, s latents with examples.
struct LatentStatsState {
  std::uint64_t rows = 0;
  std::vector<std::uint64_t> sum, squares, active;     // [n, kSumLimbs], [n, kSquaresLimbs], [n]
  std::vector<float> max;                              // [n]
  std::vector<std::uint32_t> wide_latents;             // [w], rising
  std::vector<std::uint64_t> wide_sums, wide_squares;  // [w, WideSum::kLimbs]
  std::vector<std::uint32_t> groups;                   // [g], rising
  std::vector<std::uint64_t> group_rows;               // [g]
  std::vector<std::uint64_t> part_begin;               // [n + 1], or empty without sums per group
  Columns<std::uint32_t> part_groups;                  // [p]
  Columns<float> parts;                                // [p]
  std::vector<std::uint32_t> example_counts;           // [s]
  std::vector<float> example_values;                   // [s, examples]
  std::vector<std::uint32_t> example_groups;
  std::vector<double> example_ids;
};

class LatentStats {
 public:
  explicit LatentStats(const LatentStatsOptions& options);
  // What state() gave; throws format where it cannot be that (it may come from a damaged file).
  LatentStats(const LatentStatsOptions& options, LatentStatsState state);

  // Adds the rows of `codes`. groups [tokens] or null (all rows group 0; refused where groups are used); ids
  // [tokens] or null (the running number of the row). Throws invalid_argument (latent out of range, negative
  // value, missing groups) and non_finite, and changes nothing then. A code of 0 is none.
  void add(const CodesView& codes, const std::uint32_t* groups, const double* ids);
  // Adds what another one saw. Throws invalid_argument unless options agree.
  void merge(const LatentStats& other);

  const LatentStatsOptions& options() const { return options_; }
  std::uint64_t rows() const { return rows_; }
  double sum(std::size_t latent) const;
  double sum_of_squares(std::size_t latent) const;
  double active_count(std::size_t latent) const { return static_cast<double>(records_[latent].active); }
  float max(std::size_t latent) const { return records_[latent].max; }  // 0 if never active
  // Largest value first; equal values by lower id.
  std::vector<LatentExample> examples(std::size_t latent) const { return examples_.of(latent); }
  const GroupSums& group_sums() const;
  // Rows seen of each group.
  const std::map<std::uint32_t, std::uint64_t>& group_rows() const { return group_rows_; }
  LatentStatsState state() const;

 private:
  struct WideTotals {
    WideSum sum, squares;
  };
  struct Spilled {
    std::uint32_t latent;
    float value;
  };
  struct Checked {
    std::size_t codes;
    bool fit;  // all of them LatentTotals::fits
  };
  class Gathered;
  // Throws what add() throws.
  Checked check(const CodesView& codes) const;
  // Throws invalid_argument where a latent's codes, and `more` of them, are too many for its record.
  void check_room(const std::function<std::uint64_t(std::size_t latent)>& more) const;
  void settle();
  // The codes of rows [first_row, last_row): where all of them fit, or those of latents [begin, end).
  void add_all(const CodesView& codes, std::size_t first_row, std::size_t last_row);
  void add_range(const CodesView& codes, std::size_t first_row, std::size_t last_row, std::size_t begin,
                 std::size_t end, std::vector<Spilled>& spilled);
  void add_examples(const CodesView& codes, const std::uint32_t* groups, const double* ids, std::size_t begin,
                    std::size_t end);
  template <std::size_t Limbs>
  double total(std::size_t latent, const std::array<std::uint64_t, Limbs>& own, int unit,
               WideSum WideTotals::* which) const;

  LatentStatsOptions options_;
  std::uint64_t rows_ = 0;
  AlignedBuffer<LatentRecord> records_;       // [latents]
  std::uint64_t unsettled_ = 0;               // codes added since the records' digits were carried
  std::map<std::uint32_t, WideTotals> wide_;  // of the values that do not fit the window
  TopExamples examples_;
  std::map<std::uint32_t, std::uint64_t> group_rows_;
  mutable GroupSums group_sums_;  // sorted in when read
};

}  // namespace personascope
