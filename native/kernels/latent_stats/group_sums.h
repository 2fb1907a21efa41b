// Sums per (latent, group), kept only for pairs that occur, and exact: whatever the order in which codes
// came, the same bits. A pair's sum is written as fp32 parts, each the leading bits of what is left, so most
// pairs take eight or sixteen bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/core/column.h"

namespace personascope {

// Sum of one latent over the rows of one group.
struct GroupSum {
  std::uint32_t group = 0;
  double sum = 0;
};

class GroupSums {
 public:
  explicit GroupSums(std::size_t latents);
  // A finite value > 0.
  void add(std::uint32_t latent, std::uint32_t group, float value) {
    added_.push_back({latent, group, value});
  }
  // Sorts in what was added once it is much; keeps memory near eight to twelve bytes a pair.
  void tidy();
  void merge(const GroupSums& other);

  // Sorts in everything added. The readers below need it.
  void settle();
  // [latents + 1]: the parts of a latent are begin()[l] ... begin()[l + 1] - 1, by rising group, those of one
  // group by falling size.
  const std::vector<std::uint64_t>& begin() const { return begin_; }
  const Column<std::uint32_t>& groups() const { return groups_; }
  const Column<float>& parts() const { return parts_; }
  // One entry a group in which the latent was active, by rising group; replaces the content of `out`.
  void of(std::size_t latent, std::vector<GroupSum>& out) const;

  // What begin(), groups() and parts() gave; throws format unless they could have. Groups and parts stay
  // where they lie until more is added.
  void restore(std::vector<std::uint64_t> begin, Column<std::uint32_t> groups, Column<float> parts);

 private:
  struct Added {
    std::uint32_t latent, group;
    float value;
  };
  struct Part {
    std::uint32_t group;
    float value;
  };
  // What settle() makes.
  struct Made {
    std::vector<std::uint32_t> groups;
    std::vector<float> parts;
    void push_group(const Part* first, const Part* last);
  };

  std::vector<std::uint64_t> begin_;
  Column<std::uint32_t> groups_;
  Column<float> parts_;
  std::vector<Added> added_;
};

}  // namespace personascope
