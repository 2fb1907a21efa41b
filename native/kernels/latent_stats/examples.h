// The rows on which a latent is strongest: a bounded list for each latent that is watched.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace personascope {

struct LatentExample {
  float value = 0;
  std::uint32_t group = 0;
  double id = 0;
};

class TopExamples {
 public:
  // `count` rows a latent; of each group only its best one if `distinct_groups`. `watched`: rising latents,
  // or empty for all. Throws invalid_argument.
  TopExamples(std::size_t latents, std::size_t count, bool distinct_groups,
              std::vector<std::uint32_t> watched);
  void add(std::size_t latent, const LatentExample& example);
  void merge(const TopExamples& other);  // made with the same options
  // Largest value first; equal values by lower id. Empty for a latent that is not watched.
  std::vector<LatentExample> of(std::size_t latent) const;

  std::size_t count() const { return count_; }
  bool distinct_groups() const { return distinct_groups_; }
  const std::vector<std::uint32_t>& watched() const { return watched_; }
  // By slot: a latent's place in watched(), or the latent itself.
  const std::vector<LatentExample>& entries() const { return entries_; }  // [slots, count]
  const std::vector<std::uint32_t>& used() const { return used_; }        // [slots]
  // What entries() and used() gave; throws format unless they could have.
  void restore(std::vector<LatentExample> entries, std::vector<std::uint32_t> used);

 private:
  std::size_t slot(std::size_t latent) const;  // kNone where not watched
  static constexpr std::size_t kNone = ~std::size_t{0};

  std::size_t count_;
  bool distinct_groups_;
  std::vector<std::uint32_t> watched_;
  std::vector<std::uint32_t> slot_of_;  // [latents] if there are watched ones: slot + 1, or 0
  std::vector<LatentExample> entries_;
  std::vector<std::uint32_t> used_;
};

}  // namespace personascope
