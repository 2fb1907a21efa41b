// Sums per (latent, group), kept only for pairs that occur, and exact: whatever the order in which codes
// came, the same bits. A pair's sum is written as fp32 parts, each the leading bits of what is left, so most
// pairs take eight or sixteen bytes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "native/core/column.h"
#include "native/core/paged_buffer.h"
#include "native/core/paged_vector.h"

namespace personascope {

// Sum of one latent over the rows of one group.
struct GroupSum {
  std::uint32_t group = 0;
  double sum = 0;
};

// Sums as plain arrays. The parts of latent l are begin[l] ... begin[l + 1] - 1, by rising group, those of
// one group by falling size.
struct GroupParts {
  std::vector<std::uint64_t> begin;  // [latents + 1]
  Columns<std::uint32_t> groups;
  Columns<float> parts;
};

class GroupSums {
 public:
  explicit GroupSums(std::size_t latents);
  // A finite value > 0.
  void add(std::uint32_t latent, std::uint32_t group, float value) {
    if (runs_.empty() || runs_.back().group != group || runs_.back().count == 0xFFFFFFFFu)
      runs_.push_back({group, 0});
    ++runs_.back().count;
    added_.push_back({latent, value});
  }
  // Sorts in what was added once it is much; keeps memory near eight to twelve bytes a pair.
  void tidy();
  void merge(const GroupSums& other);

  // Sorts in everything added. The readers below need it.
  void settle();
  bool empty() const;
  // One entry a group in which the latent was active, by rising group; replaces the content of `out`.
  void of(std::size_t latent, std::vector<GroupSum>& out) const;
  // Latents [first, last) will not be read for a while: sums that lie in a file need not stay in memory.
  void forget(std::size_t first, std::size_t last) const;

  // Everything as it is now; the parts are shared, not copied, and stay until the last who holds them lets
  // go.
  GroupParts parts() const;
  // What parts() gave; throws format unless it could have, or for a group that is not `known` (rising).
  // Groups and parts stay where they lie until more is added.
  void restore(GroupParts all, const std::vector<std::uint32_t>& known);

 private:
  struct Added {
    std::uint32_t latent;
    float value;
  };
  // Of what was added, so many in a row are of this group: mostly a token's codes or more.
  struct Run {
    std::uint32_t group, count;
  };
  struct Part {
    std::uint32_t group;
    float value;
  };
  // Of latents that follow each other: sorting in replaces a few at a time.
  struct Chunk {
    std::vector<std::uint64_t> begin;  // into its own columns
    Column<std::uint32_t> groups;
    Column<float> parts;
    // Where they lie, unless that is a file.
    std::shared_ptr<PagedBuffer<std::uint32_t>> group_room;
    std::shared_ptr<PagedBuffer<float>> part_room;

    // Parts [first, first + count) will not be read for a while.
    void forget(std::uint64_t first, std::uint64_t count) const {
      groups.slice(first, count).forget();
      parts.slice(first, count).forget();
    }
  };
  // Where a thread sorts in.
  struct Sorting {
    std::vector<std::uint64_t> end_of;
    PagedVector<Part> sorted;
    // The new columns of a chunk are made in the memory that the old ones of another one had.
    std::vector<std::uint64_t> begin;
    PagedBuffer<std::uint32_t> groups;
    PagedBuffer<float> parts;
  };
  struct Builder;

  // Calls take(group, added) for everything added, in the order in which it came.
  template <class Take>
  void each_added(const Take& take) const {
    const Added* one = added_.data();
    for (const Run& run : runs_)
      for (const Added* const end = one + run.count; one != end; ++one) take(run.group, *one);
  }
  // Sorts in everything added; its memory stays.
  void sort_in();
  // Bounds of ranges of chunks that take about as long to sort in: [ranges + 1].
  std::vector<std::size_t> shares(std::size_t ranges) const;
  // Sorts in what was added to the latents of chunks [first, last).
  void settle_chunks(std::size_t first, std::size_t last, Sorting& sorting);

  std::size_t latents_, chunk_;  // chunk_: latents a chunk
  std::vector<Chunk> chunks_;
  std::size_t settled_ = 0;  // parts
  PagedVector<Added> added_;
  PagedVector<Run> runs_;
  // Kept from one time to the next: memory that comes fresh from the system costs more than what is done with
  // it.
  std::vector<Sorting> sorting_;
};

}  // namespace personascope
