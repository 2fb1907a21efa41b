#include "native/kernels/latent_stats/ranking.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace personascope {

std::vector<std::uint32_t> ranking(const double* values, std::size_t count, bool falling) {
  std::vector<std::pair<double, std::uint32_t>> order(count);
  for (std::size_t i = 0; i < count; ++i) {
    const double key = falling ? -values[i] : values[i];
    // + 0.0: no negative zero
    order[i] = {std::isnan(key) ? std::numeric_limits<double>::infinity() : key + 0.0,
                static_cast<std::uint32_t>(i)};
  }
  std::sort(order.begin(), order.end());
  std::vector<std::uint32_t> ranked(count);
  for (std::size_t i = 0; i < count; ++i) ranked[i] = order[i].second;
  return ranked;
}

}  // namespace personascope
