#include "native/kernels/encode/candidates.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>

namespace personascope {

namespace {

// Sorts by value descending, then latent ascending; for positive values.
std::uint64_t key_of(float value, std::uint32_t latent) {
  return static_cast<std::uint64_t>(std::bit_cast<std::uint32_t>(value)) << 32 | (0xFFFFFFFFu - latent);
}
float value_of(std::uint64_t key) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(key >> 32));
}
std::uint32_t latent_of(std::uint64_t key) {
  return 0xFFFFFFFFu - static_cast<std::uint32_t>(key);
}

}  // namespace

void Chooser::trim(CandidateList& list, float& threshold, std::size_t spare) const {
  const std::size_t n = list.count;
  // Any value with at least k lower bounds above it is a valid threshold: bisect until few enough are left.
  if (kernels->count_at_least(list.lower, n, threshold) > k + spare) {
    float low = threshold, high = *std::max_element(list.lower, list.lower + n);
    for (;;) {
      const float middle = low + (high - low) / 2;
      if (!(middle > low && middle < high)) break;
      const std::size_t above = kernels->count_at_least(list.lower, n, middle);
      if (above < k) {
        high = middle;
        continue;
      }
      low = middle;
      if (above <= k + spare) break;
    }
    // `high` itself may be reached by k: ties at the top.
    if (kernels->count_at_least(list.lower, n, high) >= k) low = high;
    threshold = low;
  }
  std::uint32_t kept = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const float upper = list.upper[i];
    list.upper[kept] = upper;
    list.lower[kept] = list.lower[i];
    list.index[kept] = list.index[i];
    kept += upper >= threshold;
  }
  list.count = kept;
}

void Chooser::rank(CandidateList& list, const float* row) {
  open.clear();
  slots.clear();
  for (std::uint32_t i = 0; i < list.count; ++i) {
    if (list.lower[i] == list.upper[i]) continue;
    open.push_back(list.index[i]);
    slots.push_back(i);
  }
  values.resize(open.size());
  kernels->products(*encoder, row, open.data(), open.size(), values.data());
  for (std::size_t i = 0; i < open.size(); ++i) list.lower[slots[i]] = list.upper[slots[i]] = values[i];
  keys.clear();
  for (std::uint32_t i = 0; i < list.count; ++i)
    if (list.lower[i] > 0) keys.push_back(key_of(list.lower[i], list.index[i]));
  if (keys.size() > k) {
    std::nth_element(keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(k), keys.end(),
                     std::greater<std::uint64_t>());
    keys.resize(k);
  }
}

void Chooser::settle(CandidateList& list, float& threshold, const float* row) {
  rank(list, row);
  list.count = 0;
  for (const std::uint64_t key : keys) {
    list.upper[list.count] = list.lower[list.count] = value_of(key);
    list.index[list.count++] = latent_of(key);
  }
  if (keys.size() == k)
    threshold = std::max(threshold, value_of(*std::min_element(keys.begin(), keys.end())));
}

std::uint32_t Chooser::finish(CandidateList& list, float threshold, const float* row, std::uint32_t* indices,
                              float* values_out) {
  trim(list, threshold, 0);
  rank(list, row);
  std::sort(keys.begin(), keys.end(), std::greater<std::uint64_t>());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    values_out[i] = value_of(keys[i]);
    indices[i] = latent_of(keys[i]);
  }
  return static_cast<std::uint32_t>(keys.size());
}

}  // namespace personascope
