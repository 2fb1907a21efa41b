#include "native/kernels/latent_stats/group_sums.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "native/core/error.h"
#include "native/kernels/latent_stats/exact_sum.h"

namespace personascope {

namespace {

constexpr std::size_t kLeast = std::size_t{1} << 22;  // codes gathered before they are sorted in

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

}  // namespace

GroupSums::GroupSums(std::size_t latents) : begin_(latents + 1) {}

void GroupSums::tidy() {
  if (added_.size() > std::max(kLeast, parts_.size() / 4)) settle();
}

// Appends the sum of parts that are all of one group.
void GroupSums::Made::push_group(const Part* first, const Part* last) {
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

void GroupSums::settle() {
  if (added_.empty()) return;
  const std::size_t latents = begin_.size() - 1;
  // What was added, by latent, in the order in which it came.
  std::vector<std::uint64_t> added_begin(latents + 1);
  for (const Added& one : added_) ++added_begin[one.latent + 1];
  for (std::size_t l = 0; l < latents; ++l) added_begin[l + 1] += added_begin[l];
  std::vector<Part> sorted(added_.size());
  for (const Added& one : added_) sorted[added_begin[one.latent]++] = {one.group, one.value};
  std::vector<Added>().swap(added_);
  // added_begin[l] is now the end of latent l, the beginning of l + 1.

  std::vector<std::uint64_t> begin(latents + 1);
  Made made;
  made.groups.reserve(groups_.size() + sorted.size());
  made.parts.reserve(parts_.size() + sorted.size());
  std::vector<Part> run;
  const auto by_group = [](const Part& a, const Part& b) { return a.group < b.group; };
  for (std::size_t l = 0; l < latents; ++l) {
    run.clear();
    for (std::uint64_t i = begin_[l]; i < begin_[l + 1]; ++i) run.push_back({groups_[i], parts_[i]});
    for (std::uint64_t i = l == 0 ? 0 : added_begin[l - 1]; i < added_begin[l]; ++i) run.push_back(sorted[i]);
    if (!std::is_sorted(run.begin(), run.end(), by_group)) std::sort(run.begin(), run.end(), by_group);
    for (std::size_t first = 0; first < run.size();) {
      std::size_t last = first + 1;
      while (last < run.size() && run[last].group == run[first].group) ++last;
      made.push_group(run.data() + first, run.data() + last);
      first = last;
    }
    begin[l + 1] = made.parts.size();
  }
  begin_ = std::move(begin);
  groups_ = Column<std::uint32_t>();
  parts_ = Column<float>();
  made.groups.shrink_to_fit();
  made.parts.shrink_to_fit();
  groups_ = std::move(made.groups);
  parts_ = std::move(made.parts);
}

void GroupSums::merge(const GroupSums& other) {
  // A sum's parts add up like codes.
  for (std::size_t l = 0; l + 1 < other.begin_.size(); ++l)
    for (std::uint64_t i = other.begin_[l]; i < other.begin_[l + 1]; ++i)
      add(static_cast<std::uint32_t>(l), other.groups_[i], other.parts_[i]);
  for (const Added& one : std::vector<Added>(other.added_)) added_.push_back(one);
  settle();
}

void GroupSums::of(std::size_t latent, std::vector<GroupSum>& out) const {
  out.clear();
  for (std::uint64_t end = begin_[latent + 1]; end > begin_[latent];) {
    // From the smallest part up: rounded once at each step, for one or two parts once in all.
    const std::uint32_t group = groups_[end - 1];
    double sum = 0;
    for (; end > begin_[latent] && groups_[end - 1] == group; --end) sum += parts_[end - 1];
    out.push_back({group, sum});
  }
  std::reverse(out.begin(), out.end());
}

void GroupSums::restore(std::vector<std::uint64_t> begin, Column<std::uint32_t> groups, Column<float> parts) {
  const auto sound = [](bool holds, const std::string& what) {
    require(holds, ErrorCode::format, "sums per group: " + what);
  };
  sound(begin.size() == begin_.size() && begin.front() == 0 && begin.back() == parts.size() &&
            groups.size() == parts.size(),
        "their sizes do not agree");
  // Messages are made when they are needed: there may be a hundred million parts.
  for (std::size_t l = 0; l + 1 < begin.size(); ++l) {
    if (begin[l] > begin[l + 1] || begin[l + 1] > parts.size())
      fail(ErrorCode::format, "sums per group: the parts of latent " + std::to_string(l) + " fall");
    for (std::uint64_t i = begin[l]; i < begin[l + 1]; ++i)
      if (!(std::isfinite(parts[i]) && parts[i] > 0 && (i == begin[l] || groups[i] >= groups[i - 1])))
        fail(ErrorCode::format, "sums per group: part " + std::to_string(i) + " of latent " +
                                    std::to_string(l) + " is not in order");
  }
  begin_ = std::move(begin);
  groups_ = std::move(groups);
  parts_ = std::move(parts);
  added_.clear();
}

}  // namespace personascope
