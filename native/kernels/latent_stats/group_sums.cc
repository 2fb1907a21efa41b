#include "native/kernels/latent_stats/group_sums.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "native/core/error.h"
#include "native/core/thread_pool.h"
#include "native/kernels/latent_stats/exact_sum.h"

namespace personascope {

namespace {

constexpr std::size_t kLeast = std::size_t{1} << 23;  // codes gathered before they are sorted in

// Latents a chunk, a power of two: enough chunks for threads to share, each small beside all of them.
std::size_t chunk_of(std::size_t latents) {
  return std::clamp<std::size_t>(std::bit_floor(latents / 32), 256, 8192);
}

// Takes the leading 24 bits off the number, or as many of them as fp32 can say; 0 when nothing is left.
float take_part(WideSum& sum) {
  std::size_t count = WideSum::kLimbs;
  while (count > 0 && sum.limbs[count - 1] == 0) --count;
  if (count == 0) return 0;
  const int highest = static_cast<int>(64 * count) - 1 - std::countl_zero(sum.limbs[count - 1]);
  // fp32 ends at 2^-149 below. Above 2^128, which takes absurd values, parts are taken as large as they go.
  constexpr int kMost = 127 - WideSum::kUnit, kLowest = -149 - WideSum::kUnit;
  if (highest > kMost) {
    std::uint64_t borrow = 0, term = std::uint64_t{0xffffff} << ((kMost - 23) % 64);
    static_assert((kMost - 23) % 64 <= 40, "the largest fp32 value lies in one limb");
    for (std::size_t limb = (kMost - 23) / 64; limb < count; ++limb, term = 0) {
      const std::uint64_t before = sum.limbs[limb];
      sum.limbs[limb] = before - term - borrow;
      borrow = before < term || before - term < borrow ? 1 : 0;
    }
    return std::numeric_limits<float>::max();
  }
  std::uint32_t mantissa = 0;
  const int lowest = std::max(highest - 23, kLowest);
  for (int bit = highest; bit >= lowest; --bit) {
    mantissa = mantissa << 1 | static_cast<std::uint32_t>(sum.limbs[bit / 64] >> (bit % 64) & 1);
    sum.limbs[bit / 64] &= ~(std::uint64_t{1} << (bit % 64));
  }
  return std::ldexp(static_cast<float>(mantissa), lowest + WideSum::kUnit);
}

// value rounded towards zero
float leading_part(double value) {
  const auto part = static_cast<float>(value);
  return static_cast<double>(part) > value ? std::nextafter(part, 0.0f) : part;
}

// `made` becomes the column, and gets the memory that the old one had, unless others hold it too.
template <class T>
void replace(PagedBuffer<T>& made, Column<T>& column, std::shared_ptr<PagedBuffer<T>>& room) {
  made.fit();
  auto fresh = std::make_shared<PagedBuffer<T>>(std::move(made));
  column = Column<T>::of(std::shared_ptr<const PagedBuffer<T>>(fresh));
  if (room && room.use_count() == 1) {
    std::atomic_thread_fence(std::memory_order_acquire);  // whoever held it has done with it
    made = std::move(*room);
  }
  room = std::move(fresh);
}

}  // namespace

// Makes the new columns of a chunk.
struct GroupSums::Builder {
  std::vector<std::uint64_t>& begin;
  PagedBuffer<std::uint32_t>& groups;
  PagedBuffer<float>& parts;

  // About `expected` parts will come.
  void clear(std::uint64_t expected) {
    begin.assign(1, 0);
    groups.clear();
    parts.clear();
    groups.reserve(expected);
    parts.reserve(expected);
  }

  // Appends parts as they are.
  void copy(const Chunk& chunk, std::uint64_t first, std::uint64_t last) {
    groups.append(chunk.groups.data() + first, last - first);
    parts.append(chunk.parts.data() + first, last - first);
  }

  // Appends the sums of parts that are ordered by group.
  void sums(const Part* first, const Part* end) {
    while (first != end) {
      const Part* last = first + 1;
      while (last != end && last->group == first->group) ++last;
      sum(first, last);
      first = last;
    }
  }

  // Appends the sum of parts that are all of one group.
  void sum(const Part* first, const Part* last) {
    const auto push = [&](float part) {
      groups.push_back(first->group);
      parts.push_back(part);
    };
    // Nearly always the sum is exact in double.
    double sum = 0;
    bool exact = true;
    for (const Part* part = first; part != last; ++part) {
      const double value = part->value, next = sum + value, of_value = next - sum;
      exact = exact && (sum - (next - of_value)) + (value - of_value) == 0;  // Knuth's two-sum
      sum = next;
    }
    if (exact && sum <= std::numeric_limits<float>::max()) {
      while (sum > 0) {
        push(leading_part(sum));
        sum -= parts.back();
      }
      return;
    }
    WideSum wide;
    for (const Part* part = first; part != last; ++part) add_value(wide, part->value);
    for (float part = take_part(wide); part > 0; part = take_part(wide)) push(part);
  }
};

GroupSums::GroupSums(std::size_t latents)
    : latents_(latents), chunk_(chunk_of(latents)), chunks_((latents + chunk_ - 1) / chunk_) {
  for (std::size_t c = 0; c < chunks_.size(); ++c)
    chunks_[c].begin.resize(std::min(chunk_, latents - c * chunk_) + 1);
}

bool GroupSums::empty() const {
  return settled_ == 0 && added_.empty();
}

void GroupSums::tidy() {
  const std::size_t most = std::max(kLeast, settled_ / 8);
  if (added_.size() > most) sort_in();
  // A vector that grows by itself takes up to three times as much for a while.
  if (added_.size() > kLeast / 64 || settled_ > 0) added_.reserve(most + most / 8);
}

void GroupSums::settle() {
  sort_in();
  PagedVector<Added>().swap(added_);
  PagedVector<Run>().swap(runs_);
  std::vector<Sorting>().swap(sorting_);
}

void GroupSums::sort_in() {
  if (added_.empty()) return;
  // Threads share the latents; each looks through all that was added.
  const std::size_t ranges = added_.size() < 32768 ? 1 : static_cast<std::size_t>(thread_count());
  if (sorting_.size() < ranges) sorting_.resize(ranges);
  const std::vector<std::size_t> bounds = shares(ranges);
  parallel_for(ranges, 1, [&](std::size_t range, std::size_t) {
    settle_chunks(bounds[range], bounds[range + 1], sorting_[range]);
  });
  added_.clear();
  runs_.clear();
  settled_ = 0;
  for (const Chunk& chunk : chunks_) settled_ += chunk.parts.size();
}

std::vector<std::size_t> GroupSums::shares(std::size_t ranges) const {
  if (ranges == 1) return {0, chunks_.size()};
  // Of each chunk: what was added, and what is there already where that is made anew.
  std::vector<std::size_t> work(chunks_.size());
  const int shift = std::countr_zero(chunk_);
  for (const Added& one : added_) ++work[one.latent >> shift];
  std::size_t total = 0;
  for (std::size_t c = 0; c < work.size(); ++c) {
    if (work[c] > 0) work[c] += chunks_[c].parts.size();
    total += work[c];
  }
  std::vector<std::size_t> bounds = {0};
  std::size_t before = 0;
  for (std::size_t c = 0; c < work.size(); before += work[c++])
    while (bounds.size() < ranges && before >= total / ranges * bounds.size()) bounds.push_back(c);
  bounds.resize(ranges, work.size());
  bounds.push_back(work.size());
  return bounds;
}

void GroupSums::settle_chunks(std::size_t first, std::size_t last, Sorting& sorting) {
  if (first == last) return;
  const std::size_t lowest = first * chunk_, count = std::min(latents_, last * chunk_) - lowest;
  // What was added, by latent, in the order in which it came.
  std::vector<std::uint64_t>& end_of = sorting.end_of;
  end_of.assign(count + 1, 0);
  each_added([&](std::uint32_t, const Added& one) {
    if (one.latent - lowest < count) ++end_of[one.latent - lowest + 1];
  });
  for (std::size_t l = 0; l < count; ++l) end_of[l + 1] += end_of[l];
  PagedVector<Part>& sorted = sorting.sorted;
  if (sorted.size() < end_of[count]) sorted.resize(end_of[count]);
  each_added([&](std::uint32_t group, const Added& one) {
    if (one.latent - lowest < count) sorted[end_of[one.latent - lowest]++] = {group, one.value};
  });
  // end_of[l] was the beginning of latent l, and is its end now.

  const auto by_group = [](const Part& a, const Part& b) { return a.group < b.group; };
  std::vector<Part> run;
  Builder made{sorting.begin, sorting.groups, sorting.parts};  // its memory serves all chunks
  std::uint64_t next = 0;
  for (std::size_t c = first; c < last; ++c) {
    Chunk& chunk = chunks_[c];
    const std::size_t own = chunk.begin.size() - 1, base = c * chunk_ - lowest;
    const std::uint64_t added = end_of[base + own - 1] - next;
    if (added == 0) continue;
    made.clear(chunk.parts.size() + added);
    for (std::size_t l = 0; l < own; ++l) {
      const std::uint64_t old = chunk.begin[l], old_end = chunk.begin[l + 1], end = end_of[base + l];
      Part* const fresh = sorted.data() + next;
      Part* const fresh_end = sorted.data() + end;
      next = end;
      if (!std::is_sorted(fresh, fresh_end, by_group)) std::stable_sort(fresh, fresh_end, by_group);
      if (fresh == fresh_end || old == old_end || chunk.groups[old_end - 1] < fresh->group) {
        // Groups mostly come one after the other.
        made.copy(chunk, old, old_end);
        made.sums(fresh, fresh_end);
      } else {
        run.clear();
        for (std::uint64_t i = old; i < old_end; ++i) run.push_back({chunk.groups[i], chunk.parts[i]});
        run.insert(run.end(), fresh, fresh_end);
        std::stable_sort(run.begin(), run.end(), by_group);
        made.sums(run.data(), run.data() + run.size());
      }
      made.begin.push_back(made.parts.size());
    }
    chunk.begin.swap(made.begin);
    replace(made.groups, chunk.groups, chunk.group_room);
    replace(made.parts, chunk.parts, chunk.part_room);
  }
}

void GroupSums::merge(const GroupSums& other) {
  // A sum's parts add up like codes.
  for (std::size_t c = 0; c < other.chunks_.size(); ++c) {
    const Chunk& chunk = other.chunks_[c];
    for (std::size_t l = 0; l + 1 < chunk.begin.size(); ++l)
      for (std::uint64_t i = chunk.begin[l]; i < chunk.begin[l + 1]; ++i)
        add(static_cast<std::uint32_t>(c * chunk_ + l), chunk.groups[i], chunk.parts[i]);
    chunk.forget(0, chunk.parts.size());
    tidy();
  }
  other.each_added([&](std::uint32_t group, const Added& one) { add(one.latent, group, one.value); });
  settle();
}

void GroupSums::of(std::size_t latent, std::vector<GroupSum>& out) const {
  out.clear();
  const Chunk& chunk = chunks_[latent / chunk_];
  const std::uint64_t begin = chunk.begin[latent % chunk_];
  for (std::uint64_t end = chunk.begin[latent % chunk_ + 1]; end > begin;) {
    // From the smallest part up: rounded once at each step, for one or two parts once in all.
    const std::uint32_t group = chunk.groups[end - 1];
    double sum = 0;
    for (; end > begin && chunk.groups[end - 1] == group; --end) sum += chunk.parts[end - 1];
    out.push_back({group, sum});
  }
  std::reverse(out.begin(), out.end());
}

void GroupSums::forget(std::size_t first, std::size_t last) const {
  while (first < last) {
    const Chunk& chunk = chunks_[first / chunk_];
    const std::size_t own = first % chunk_, end = std::min(own + last - first, chunk.begin.size() - 1);
    const std::uint64_t begin = chunk.begin[own], count = chunk.begin[end] - begin;
    chunk.forget(begin, count);
    first += end - own;
  }
}

GroupParts GroupSums::parts() const {
  GroupParts all;
  all.begin = {0};
  all.begin.reserve(latents_ + 1);
  for (const Chunk& chunk : chunks_) {
    const std::size_t before = all.parts.size();
    for (std::size_t l = 1; l < chunk.begin.size(); ++l) all.begin.push_back(before + chunk.begin[l]);
    all.groups.append(chunk.groups);
    all.parts.append(chunk.parts);
  }
  return all;
}

void GroupSums::restore(GroupParts all, const std::vector<std::uint32_t>& known) {
  const std::vector<std::uint64_t>& begin = all.begin;
  require(begin.size() == latents_ + 1 && begin.front() == 0 && begin.back() == all.parts.size() &&
              all.groups.size() == all.parts.size(),
          ErrorCode::format, "sums per group: their sizes do not agree");
  // Mostly the groups are numbered without gaps.
  const bool dense = !known.empty() && known.back() - known.front() == known.size() - 1;
  const auto is_known = [&](std::uint32_t group) {
    return dense ? group - known.front() < known.size()
                 : std::binary_search(known.begin(), known.end(), group);
  };
  for (std::size_t l = 0; l < latents_; ++l)
    if (begin[l] > begin[l + 1])
      fail(ErrorCode::format, "sums per group: the parts of latent " + std::to_string(l) + " fall");
  for (std::size_t c = 0; c < chunks_.size(); ++c) {
    Chunk& chunk = chunks_[c];
    const std::size_t lowest = c * chunk_, own = chunk.begin.size() - 1;
    const std::uint64_t first = begin[lowest], count = begin[lowest + own] - first;
    for (std::size_t l = 0; l <= own; ++l) chunk.begin[l] = begin[lowest + l] - first;
    chunk.group_room = nullptr;
    chunk.part_room = nullptr;
    chunk.groups = all.groups.slice(first, count);
    chunk.parts = all.parts.slice(first, count);
    // Messages are made when they are needed: there may be a hundred million parts.
    for (std::size_t l = 0; l < own; ++l)
      for (std::uint64_t i = chunk.begin[l]; i < chunk.begin[l + 1]; ++i) {
        const float part = chunk.parts[i];
        const std::uint32_t group = chunk.groups[i];
        if (!(std::isfinite(part) && part > 0 && (i == chunk.begin[l] || group >= chunk.groups[i - 1])))
          fail(ErrorCode::format, "sums per group: part " + std::to_string(first + i) + " of latent " +
                                      std::to_string(lowest + l) + " is not in order");
        if (!is_known(group))
          fail(ErrorCode::format,
               "sums per group: a sum of group " + std::to_string(group) + ", which has no rows");
      }
    chunk.forget(0, chunk.parts.size());
  }
  settled_ = all.parts.size();
  added_.clear();
  runs_.clear();
}

}  // namespace personascope
