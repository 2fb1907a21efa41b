// How one batch steps over the latents. A wave is screened against the thresholds of its beginning, so it
// must not bring a token more candidates than its list takes. Waves begin with as many latents as always fit
// and grow; one that overflows runs again, smaller. A wave of `sure` latents cannot overflow: after a wave is
// settled no list is fuller than capacity - sure.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string>

#include "native/core/error.h"

namespace personascope::cuda {

class WavePlan {
 public:
  // Latents [begin, end). Waves end at multiples of `tile` from 0 where tile > 0 (weights that come tile by
  // tile).
  WavePlan(std::uint64_t begin, std::uint64_t end, std::uint32_t capacity, std::uint64_t tile = 0)
      : at_(begin),
        begin_(begin),
        end_(end),
        capacity_(capacity),
        sure_(std::max(1u, capacity / 2)),
        tile_(tile) {
    size_ = capacity;  // lists are empty
  }

  bool done() const { return at_ == end_; }
  std::uint64_t begin() const { return at_; }
  std::uint64_t end() const {
    std::uint64_t end = std::min(end_, at_ + size_);
    if (tile_) end = std::min(end, (at_ / tile_ + 1) * tile_);
    return end;
  }
  // The wave went well: no list got more than `fresh` candidates, and none holds more than `held` now.
  void settled(std::uint32_t fresh, std::uint32_t held) {
    const std::uint64_t length = end() - at_;
    at_ += length;
    // As many latents again as were seen bring about as many candidates as this wave did, or fewer, since
    // thresholds rise; a half is kept in reserve.
    const std::uint64_t room = (capacity_ - std::min(held, capacity_)) / 2;
    const std::uint64_t expected = std::max<std::uint64_t>(fresh, 1);
    std::uint64_t next = std::max<std::uint64_t>(length * room / expected, 1);
    next = std::min(next, std::max<std::uint64_t>(at_ - begin_, capacity_));
    if (calm_ > 0) {
      --calm_;
      next = std::min(next, size_);
    }
    size_ = std::max<std::uint64_t>(next, sure_);
  }
  // It did not: the same latents again in a smaller wave.
  void overflowed() {
    const std::uint64_t length = end() - at_;
    require(length > sure_, ErrorCode::internal,
            "encode on the device: a list of " + std::to_string(capacity_) + " overflowed in a wave of " +
                std::to_string(length) + " latents");
    size_ = std::max<std::uint64_t>(length / 2, sure_);
    calm_ = 4;
  }

 private:
  std::uint64_t at_, begin_, end_, size_ = 0;
  std::uint32_t capacity_;
  std::uint64_t sure_, tile_;
  int calm_ = 0;  // waves for which the size does not grow
};

}  // namespace personascope::cuda
