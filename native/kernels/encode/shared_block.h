// A block of tokens whose latents several threads screen: the one whose block it is takes them from the
// front; others, once there is no block left for them, take them from the back. Threads then finish together
// whatever else the machine has to do. Which codes are chosen does not depend on who screened what.
#pragma once
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "native/kernels/encode/candidates.h"

namespace personascope {

struct Block;

struct Range {
  std::size_t begin = 0, end = 0;
  bool empty() const { return begin >= end; }
};

// Units 0, 1, ... fewer than 2^32 that are not taken yet; those left lie side by side.
class Untaken {
 public:
  void set(std::size_t count) { range_.store(std::uint64_t{count} << 32, std::memory_order_relaxed); }
  std::size_t count() const {
    const Range left = unpack(range_.load(std::memory_order_relaxed));
    return left.end - left.begin;
  }
  // At most `most` of them.
  Range front(std::size_t most) {
    return take([&](Range left) {
      const std::size_t end = std::min(left.end, left.begin + most);
      return std::pair(Range{left.begin, end}, Range{end, left.end});
    });
  }
  // About as many, from a multiple of `step` on.
  Range back(std::size_t most, std::size_t step) {
    return take([&](Range left) {
      const std::size_t from = left.end > most ? (left.end - most) / step * step : 0;
      const std::size_t begin = std::max(left.begin, from);
      return std::pair(Range{begin, left.end}, Range{left.begin, begin});
    });
  }

 private:
  static Range unpack(std::uint64_t packed) { return {packed & 0xFFFFFFFFu, packed >> 32}; }
  template <class Split>
  Range take(const Split& split) {
    std::uint64_t before = range_.load(std::memory_order_relaxed);
    for (;;) {
      if (unpack(before).empty()) return {};
      const auto [taken, left] = split(unpack(before));
      if (range_.compare_exchange_weak(before, std::uint64_t{left.end} << 32 | left.begin,
                                       std::memory_order_relaxed))
        return taken;
    }
  }

  std::atomic<std::uint64_t> range_{0};  // begin, and end above it
};

// Found: what a helper leaves behind.
template <class Found>
class SharedBlock {
 public:
  // --- The thread whose block it is.
  void load() { state_ = State::loading; }
  // `block` may be read until it is closed. A thread takes `claim` units at once, helpers from multiples of
  // `step`.
  void open(const Block& block, std::size_t units, std::size_t claim, std::size_t step) {
    block_ = &block;
    claim_ = claim;
    step_ = step;
    untaken_.set(units);
    state_ = State::open;
  }
  Range take_front() { return untaken_.front(claim_); }
  // Thresholds that screening has come to, and of how many latents.
  void publish(const Candidates& candidates, std::size_t seen) {
    const std::lock_guard lock(mutex_);
    thresholds_.assign(candidates.thresholds.data(), candidates.thresholds.data() + candidates.lists.size());
    seen_ = seen;
  }
  // Waits for those who are helping; nobody comes any more. What they found.
  std::vector<std::unique_ptr<Found>> close() {
    std::unique_lock lock(mutex_);
    state_ = State::closed;
    left_.wait(lock, [&] { return inside_ == 0; });
    return std::exchange(found_, {});
  }

  // --- The others.
  bool loading() const { return state_ == State::loading; }
  // Units that are left, where they are worth another thread.
  std::size_t left() const {
    if (state_ != State::open) return 0;
    const std::size_t count = untaken_.count();
    return count >= 2 * claim_ ? count : 0;
  }
  // Null if it is closed already; else `leave` has to follow.
  const Block* enter() {
    const std::lock_guard lock(mutex_);
    if (state_ != State::open) return nullptr;
    ++inside_;
    return block_;
  }
  Range take_back() { return untaken_.back(claim_, step_); }
  // Takes over what the owner knows; `seen` counts the latents that it knows it from.
  void learn(Candidates& candidates, std::size_t& seen) {
    const std::lock_guard lock(mutex_);
    for (std::size_t t = 0; t < thresholds_.size(); ++t)
      candidates.thresholds[t] = std::max(candidates.thresholds[t], thresholds_[t]);
    seen = std::max(seen, seen_);
  }
  // Without anything where it failed.
  void leave(std::unique_ptr<Found> found) {
    const std::lock_guard lock(mutex_);
    if (found) found_.push_back(std::move(found));
    if (--inside_ == 0) left_.notify_all();
  }

 private:
  enum class State { waiting, loading, open, closed };

  std::atomic<State> state_{State::waiting};
  const Block* block_ = nullptr;
  std::size_t claim_ = 1, step_ = 1;
  Untaken untaken_;
  std::mutex mutex_;
  std::condition_variable left_;
  int inside_ = 0;  // guarded by the mutex, like those below
  std::vector<std::unique_ptr<Found>> found_;
  std::vector<float> thresholds_;
  std::size_t seen_ = 0;
};

}  // namespace personascope
