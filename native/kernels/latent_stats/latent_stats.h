// Statistics per latent over a stream of sparse codes: rows seen, sum, sum of squares, rows in which it was
// active, maximum, and where asked the rows of largest value and the sums per group (a group is a prompt or a
// document). Dense in latents, never in rows x latents.
//
// Every sum is fp64 in the order of the rows, whatever the number of threads; adding in several batches gives
// the same bits as adding at once. Accumulation is a scatter to random places in memory, bound by its
// latency: there are no ISA variants of it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "native/kernels/decode/codes.h"

namespace personascope {

struct LatentStatsOptions {
  std::size_t latents = 0;
  std::size_t examples = 0;      // rows of largest value kept a latent, at most 4096
  bool distinct_groups = false;  // of each group only its best row is kept as an example
  bool per_group = false;        // keep sums per (group, latent), sparsely
};

struct LatentExample {
  float value = 0;
  std::uint32_t group = 0;
  double id = 0;
};

// Sum of one latent over the rows of one group.
struct GroupSum {
  std::uint32_t latent = 0, group = 0;
  double sum = 0;
};

class LatentStats {
 public:
  explicit LatentStats(const LatentStatsOptions& options);

  // Adds the rows of `codes`. groups [tokens] or null (all rows group 0; refused where groups are used); ids
  // [tokens] or null (the running number of the row). Throws invalid_argument (latent out of range, missing
  // groups) and non_finite, and changes nothing then.
  void add(const CodesView& codes, const std::uint32_t* groups, const double* ids);
  // Adds what another one saw (its rows count as later ones). Throws invalid_argument unless options agree.
  void merge(const LatentStats& other);

  const LatentStatsOptions& options() const { return options_; }
  std::uint64_t rows() const { return rows_; }
  const std::vector<double>& sum() const { return sum_; }                 // [latents]
  const std::vector<double>& sum_of_squares() const { return squares_; }  // [latents]
  const std::vector<double>& active_count() const { return active_; }     // [latents], whole numbers
  const std::vector<float>& max() const { return max_; }                  // [latents], 0 if never active
  // Largest value first; equal values by lower id.
  std::vector<LatentExample> examples(std::size_t latent) const;
  // Sorted by latent, then group; one entry a pair.
  const std::vector<GroupSum>& group_sums() const;
  // Rows seen of each group.
  const std::map<std::uint32_t, std::uint64_t>& group_rows() const { return group_rows_; }

 private:
  void add_range(const CodesView& codes, const std::uint32_t* groups, const double* ids, std::size_t begin,
                 std::size_t end);
  void add_example(std::size_t latent, const LatentExample& example);
  void consolidate() const;

  LatentStatsOptions options_;
  std::uint64_t rows_ = 0;
  std::vector<double> sum_, squares_, active_;
  std::vector<float> max_;
  std::vector<LatentExample> examples_;       // [latents, options.examples], best first
  std::vector<std::uint32_t> example_count_;  // [latents]
  std::map<std::uint32_t, std::uint64_t> group_rows_;
  mutable std::vector<GroupSum> group_sums_;  // sorted up to sorted_
  mutable std::size_t sorted_ = 0;
};

}  // namespace personascope
