#include "native/kernels/latent_stats/examples.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/error.h"

namespace personascope {

namespace {

bool better(const LatentExample& a, const LatentExample& b) {
  return a.value != b.value ? a.value > b.value : a.id < b.id;
}

}  // namespace

TopExamples::TopExamples(std::size_t latents, std::size_t count, bool distinct_groups,
                         std::vector<std::uint32_t> watched)
    : count_(count), distinct_groups_(distinct_groups), watched_(std::move(watched)) {
  require(count <= 4096, ErrorCode::invalid_argument,
          "latent statistics: " + std::to_string(count) + " examples, expected at most 4096");
  if (!watched_.empty()) {
    slot_of_.resize(latents);
    for (std::size_t i = 0; i < watched_.size(); ++i) {
      require(watched_[i] < latents, ErrorCode::invalid_argument,
              "latent statistics: examples of latent " + std::to_string(watched_[i]) + " of " +
                  std::to_string(latents));
      require(i == 0 || watched_[i] > watched_[i - 1], ErrorCode::invalid_argument,
              "latent statistics: the latents with examples must rise");
      slot_of_[watched_[i]] = static_cast<std::uint32_t>(i + 1);
    }
  }
  const std::size_t slots = count == 0 ? 0 : watched_.empty() ? latents : watched_.size();
  entries_.resize(slots * count);
  used_.resize(slots);
}

std::size_t TopExamples::slot(std::size_t latent) const {
  if (count_ == 0) return kNone;
  if (watched_.empty()) return latent;
  return slot_of_[latent] ? slot_of_[latent] - 1 : kNone;
}

void TopExamples::add(std::size_t latent, const LatentExample& example) {
  const std::size_t at = slot(latent);
  if (at == kNone) return;
  LatentExample* list = entries_.data() + at * count_;
  std::uint32_t& count = used_[at];
  if (count == count_ && !better(example, list[count - 1])) return;
  std::size_t gap = count;  // the place that is free or given up
  if (distinct_groups_) {
    const auto same =
        std::find_if(list, list + count, [&](const auto& e) { return e.group == example.group; });
    gap = static_cast<std::size_t>(same - list);
    if (gap < count && !better(example, *same)) return;
  }
  if (gap == count) {
    if (count < count_)
      ++count;
    else
      --gap;
  }
  for (; gap > 0 && better(example, list[gap - 1]); --gap) list[gap] = list[gap - 1];
  list[gap] = example;
}

void TopExamples::merge(const TopExamples& other) {
  for (std::size_t s = 0; s < other.used_.size(); ++s)
    for (std::size_t i = 0; i < other.used_[s]; ++i)
      add(watched_.empty() ? s : watched_[s], other.entries_[s * count_ + i]);
}

std::vector<LatentExample> TopExamples::of(std::size_t latent) const {
  const std::size_t at = slot(latent);
  if (at == kNone) return {};
  const auto first = entries_.begin() + static_cast<std::ptrdiff_t>(at * count_);
  return {first, first + used_[at]};
}

void TopExamples::restore(std::vector<LatentExample> entries, std::vector<std::uint32_t> used) {
  require(entries.size() == entries_.size() && used.size() == used_.size(), ErrorCode::format,
          "examples: " + std::to_string(entries.size()) + " in " + std::to_string(used.size()) +
              " lists, expected " + std::to_string(entries_.size()) + " in " + std::to_string(used_.size()));
  for (std::size_t s = 0; s < used.size(); ++s) {
    require(used[s] <= count_, ErrorCode::format,
            "examples: list " + std::to_string(s) + " has " + std::to_string(used[s]) +
                " entries, expected at most " + std::to_string(count_));
    for (std::size_t i = s * count_; i < s * count_ + used[s]; ++i)
      require(std::isfinite(entries[i].value) && entries[i].value > 0 && std::isfinite(entries[i].id) &&
                  (i == s * count_ || better(entries[i - 1], entries[i])),
              ErrorCode::format, "examples: entry " + std::to_string(i) + " is not in order");
  }
  entries_ = std::move(entries);
  used_ = std::move(used);
}

}  // namespace personascope
