// How kernels split their work: chunks large enough to be worth waking a thread for, so that tiny calls stay
// in the calling thread.
#pragma once
#include <cstddef>
#include <functional>

#include "native/core/thread_pool.h"

namespace personascope {

// Calls body(begin, end) over [0, count); `cost` is the work of one index in element operations (about a
// nanosecond's worth a dozen). Chunks carry at least 32k of them, and at most 8 chunks a thread are made.
inline void parallel_rows(std::size_t count, std::size_t cost,
                          const std::function<void(std::size_t begin, std::size_t end)>& body) {
  constexpr std::size_t kChunk = 32768;
  std::size_t grain = cost >= kChunk ? 1 : (kChunk + cost) / (cost + 1);
  const std::size_t chunks = 8 * static_cast<std::size_t>(thread_count());
  if (grain < (count + chunks - 1) / chunks) grain = (count + chunks - 1) / chunks;
  parallel_for(count, grain, body);
}

}  // namespace personascope
