// The epilogue of every screen: intervals, and putting what may be a code into the token's list.
#pragma once
#include "cuda/encode/kernels.h"

namespace personascope::cuda {

__device__ inline LatentBound load_bound(const BoundTable& table, std::uint32_t latent) {
  return {__ldg(table.scale + latent), __ldg(table.bias + latent), __ldg(table.slack_norm + latent),
          __ldg(table.slack_error + latent), __ldg(table.slack_offset + latent)};
}

// A place is claimed even where there is none: the count then tells of the overflow.
__device__ inline void push(const Lists& lists, std::uint32_t token, std::uint32_t latent,
                            Interval interval) {
  const std::uint32_t place = atomicAdd(lists.count + token, 1u);
  if (place >= lists.capacity) return;
  const std::size_t at = static_cast<std::size_t>(token) * lists.capacity + place;
  lists.upper[at] = interval.upper;
  lists.lower[at] = interval.lower;
  lists.index[at] = latent;
}

// column: scale, norm, error and threshold of the token; a place without one has threshold +Inf, and nothing
// reaches it but +Inf itself, which finite weights and tokens cannot give (see kLargest).
__device__ inline void screen_one(const Lists& lists, std::uint32_t token, std::uint32_t latent,
                                  float product, const LatentBound& bound, const float4& column) {
  const Interval interval = screened_interval(product, bound, {column.x, column.y, column.z});
  if (interval.upper >= column.w) push(lists, token, latent, interval);
}

}  // namespace personascope::cuda
