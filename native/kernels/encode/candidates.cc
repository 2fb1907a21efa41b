#include "native/kernels/encode/candidates.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>

namespace personascope {

namespace {

// Sorts by score descending, then latent ascending, for positive scores.
std::uint64_t key_of(float score, std::uint32_t latent) {
  return static_cast<std::uint64_t>(std::bit_cast<std::uint32_t>(score)) << 32 | (0xFFFFFFFFu - latent);
}

}  // namespace

void sort_codes(std::vector<Code>& codes) {
  std::sort(codes.begin(), codes.end(), [](const Code& a, const Code& b) {
    return a.value != b.value ? a.value > b.value : a.latent < b.latent;
  });
}

void Candidates::reset(std::size_t tokens, std::size_t slots, std::uint32_t new_capacity, float threshold) {
  const std::size_t pitch = new_capacity + kListPadding;
  if (thresholds.size() < slots) thresholds = AlignedBuffer<float>(slots);
  if (bounds_.size() < slots * pitch * 3) bounds_ = AlignedBuffer<float>(slots * pitch * 3);
  if (indices_.size() < slots * pitch) indices_ = AlignedBuffer<std::uint32_t>(slots * pitch);
  capacity = new_capacity;
  lists.resize(slots);
  done.resize(tokens);
  for (auto& codes : done) codes.clear();
  for (std::size_t t = 0; t < slots; ++t) {
    float* bounds = bounds_.data() + 3 * t * pitch;
    lists[t] = {bounds, bounds + pitch, bounds + 2 * pitch, indices_.data() + t * pitch, 0};
  }
  restart(tokens, threshold);
}

void Candidates::restart(std::size_t tokens, float threshold) {
  for (std::size_t t = 0; t < lists.size(); ++t) {
    thresholds[t] = t < tokens ? threshold : std::numeric_limits<float>::infinity();
    lists[t].count = 0;
  }
}

void Chooser::use(const EncoderWeights& encoder, const EncodeKernels& kernels, const float* rows,
                  std::size_t padded, std::size_t k) {
  encoder_ = &encoder;
  kernels_ = &kernels;
  rows_ = rows;
  padded_ = padded;
  k_ = k;
}

void Chooser::drop_below(CandidateList& list, float threshold) {
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < list.count; ++i) {
    const float upper = list.upper[i];
    list.upper[kept] = upper;
    list.lower[kept] = list.lower[i];
    list.value[kept] = list.value[i];
    list.index[kept] = list.index[i];
    kept += upper >= threshold;
  }
  list.count = kept;
}

void Chooser::trim(CandidateList& list, float& threshold, std::size_t spare) const {
  const std::size_t n = list.count;
  // Any value with at least k lower bounds above it is a valid threshold: bisect until few enough are left.
  if (kernels_->count_at_least(list.lower, n, threshold) > k_ + spare) {
    float low = threshold, high = *std::max_element(list.lower, list.lower + n);
    for (;;) {
      const float middle = low + (high - low) / 2;
      if (!(middle > low && middle < high)) break;
      const std::size_t above = kernels_->count_at_least(list.lower, n, middle);
      if (above < k_) {
        high = middle;
        continue;
      }
      low = middle;
      if (above <= k_ + spare) break;
    }
    // `high` itself may be reached by k: ties at the top.
    if (kernels_->count_at_least(list.lower, n, high) >= k_) low = high;
    threshold = low;
  }
  drop_below(list, threshold);
}

void Chooser::open(const CandidateList& list, std::size_t token, float least) {
  for (std::uint32_t i = 0; i < list.count; ++i)
    if (list.lower[i] != list.upper[i] && list.lower[i] >= least)
      open_.push_back({list.index[i], static_cast<std::uint32_t>(token), i});
}

void Chooser::rescore(Candidates& candidates) {
  const std::size_t n = open_.size();
  count.rescored += n;
  // By latent: rows of W are then read once each, in the order in which they lie. Radix sort, 11 bits at
  // once.
  if (n > 64) {
    constexpr std::size_t kBits = 11;
    sorted_.resize(n);
    for (std::size_t shift = 0; encoder_->latents >> shift != 0; shift += kBits) {
      std::array<std::uint32_t, (1u << kBits) + 1> begin = {};
      for (const Open& o : open_) ++begin[(o.latent >> shift & ((1u << kBits) - 1)) + 1];
      for (std::size_t i = 1; i < begin.size(); ++i) begin[i] += begin[i - 1];
      for (const Open& o : open_) sorted_[begin[o.latent >> shift & ((1u << kBits) - 1)]++] = o;
      open_.swap(sorted_);
    }
  }
  latents_.resize(n);
  tokens_.resize(n);
  products_.resize(n);
  for (std::size_t i = 0; i < n; ++i) {
    latents_[i] = open_[i].latent;
    tokens_[i] = open_[i].token;
  }
  PairsArgs args;
  args.weights = &encoder_->rows;
  args.rows = rows_;
  args.padded = padded_;
  args.latents = latents_.data();
  args.tokens = tokens_.data();
  args.count = n;
  args.out = products_.data();
  kernels_->products(args);
  for (std::size_t i = 0; i < n; ++i) {
    const Scored scored = score_of(encoder_->selection, encoder_->bias, open_[i].latent, products_[i]);
    CandidateList& list = candidates.lists[open_[i].token];
    list.lower[open_[i].slot] = list.upper[open_[i].slot] = scored.score;
    list.value[open_[i].slot] = scored.value;
  }
  open_.clear();
}

void Chooser::raise(const CandidateList& list, float& threshold) {
  keys_.clear();
  for (std::uint32_t i = 0; i < list.count; ++i)
    if (list.lower[i] == list.upper[i] && list.lower[i] > threshold)
      keys_.push_back(key_of(list.lower[i], list.index[i]));
  if (keys_.size() < k_) return;
  const auto kth = keys_.begin() + static_cast<std::ptrdiff_t>(k_) - 1;
  std::nth_element(keys_.begin(), kth, keys_.end(), std::greater<std::uint64_t>());
  threshold = std::bit_cast<float>(static_cast<std::uint32_t>(*kth >> 32));
}

void Chooser::take(CandidateList& list, std::vector<Code>& codes) {
  if (k_ == 0) {
    for (std::uint32_t i = 0; i < list.count; ++i)
      if (list.lower[i] > 0) codes.push_back({list.value[i], list.index[i]});
    list.count = 0;
    return;
  }
  // key: score and latent decide; then the place in the list.
  std::vector<std::pair<std::uint64_t, std::uint32_t>> ranked;
  for (std::uint32_t i = 0; i < list.count; ++i)
    if (list.lower[i] > 0) ranked.emplace_back(key_of(list.lower[i], list.index[i]), i);
  if (ranked.size() > k_) {
    std::nth_element(ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(k_), ranked.end(),
                     std::greater<>());
    ranked.resize(k_);
  }
  for (const auto& [key, place] : ranked) codes.push_back({list.value[place], list.index[place]});
  list.count = 0;
}

void Chooser::compact(Candidates& candidates, std::size_t token) {
  CandidateList& list = candidates.lists[token];
  count.screened += list.count;
  if (k_ == 0) {
    open(list, token, -std::numeric_limits<float>::infinity());
    rescore(candidates);
    take(list, candidates.done[token]);
    return;
  }
  float& threshold = candidates.thresholds[token];
  trim(list, threshold, k_ / 4);
  // Exact values of the likeliest may tell what bounds cannot.
  if (list.count > candidates.capacity / 2) sharpen(candidates, token, token + 1);
  if (list.count <= candidates.capacity / 2) {
    count.screened -= list.count;
    return;
  }
  // Mass ties, or bounds too wide to choose by: canonical values decide, the k best stay.
  open(list, token, -std::numeric_limits<float>::infinity());
  rescore(candidates);
  raise(list, threshold);
  keys_.clear();
  for (std::uint32_t i = 0; i < list.count; ++i)
    if (list.lower[i] > 0) keys_.push_back(key_of(list.lower[i], list.index[i]));
  std::uint64_t least = 0;
  if (keys_.size() > k_) {
    const auto kth = keys_.begin() + static_cast<std::ptrdiff_t>(k_) - 1;
    std::nth_element(keys_.begin(), kth, keys_.end(), std::greater<std::uint64_t>());
    least = *kth;
  }
  std::uint32_t kept = 0;
  for (std::uint32_t i = 0; i < list.count; ++i) {
    if (!(list.lower[i] > 0) || key_of(list.lower[i], list.index[i]) < least) continue;
    list.upper[kept] = list.lower[kept] = list.lower[i];
    list.value[kept] = list.value[i];
    list.index[kept++] = list.index[i];
  }
  list.count = kept;
  count.screened -= kept;
}

void Chooser::sharpen(Candidates& candidates, std::size_t begin, std::size_t end) {
  if (k_ == 0) return;
  for (std::size_t t = begin; t < end; ++t) {
    trim(candidates.lists[t], candidates.thresholds[t], 0);
    open(candidates.lists[t], t, candidates.thresholds[t]);
  }
  rescore(candidates);
  for (std::size_t t = begin; t < end; ++t) {
    raise(candidates.lists[t], candidates.thresholds[t]);
    drop_below(candidates.lists[t], candidates.thresholds[t]);
  }
}

void Chooser::resolve(Candidates& candidates, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) count.screened += candidates.lists[t].count;
  // First the likeliest: the k-th exact score then spares most of the others.
  sharpen(candidates, begin, end);
  for (std::size_t t = begin; t < end; ++t)
    open(candidates.lists[t], t, -std::numeric_limits<float>::infinity());
  rescore(candidates);
  for (std::size_t t = begin; t < end; ++t) take(candidates.lists[t], candidates.done[t]);
}

}  // namespace personascope
