// Random sparse codes for tests of statistics over them.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <vector>

#include "native/core/random.h"
#include "native/kernels/latent_stats/latent_stats.h"

namespace check {

using personascope::CodesView;
using personascope::LatentStats;
using personascope::LatentStatsOptions;
using personascope::Philox;

// Five latents a row or fewer; latents of 6 mod 7 never; groups 100 ... 119. Values are a few whole numbers,
// so that there are ties, or spread over many magnitudes.
struct Codes {
  std::size_t latents;
  std::vector<std::uint32_t> indices, offsets = {0}, groups;
  std::vector<float> values;
  std::vector<double> ids;
  Codes(std::size_t rows, std::size_t latents_, std::uint64_t seed, double shift = 0) : latents(latents_) {
    const Philox random(seed, 3);
    std::uint64_t draw = 0;
    for (std::size_t t = 0; t < rows; ++t) {
      groups.push_back(static_cast<std::uint32_t>(100 + t / 3 % 20));
      ids.push_back(1e9 - static_cast<double>(t));
      std::set<std::uint32_t> seen;
      for (int c = 0; c < 5; ++c) seen.insert(static_cast<std::uint32_t>(random.uniform(draw++) * latents));
      for (std::uint32_t latent : seen) {
        if (latent % 7 == 6) continue;  // never active
        indices.push_back(latent);
        // few distinct values, so that there are ties
        values.push_back(
            static_cast<float>(std::floor(random.uniform(draw++) * 8) + 1 + (latent % 5 == 0 ? shift : 0)));
      }
      offsets.push_back(static_cast<std::uint32_t>(indices.size()));
    }
  }
  std::size_t rows() const { return groups.size(); }
  CodesView view(std::size_t begin, std::size_t end) const {
    return {end - begin, indices.data(), values.data(), offsets.data() + begin, 0, nullptr};
  }
  LatentStats stats(const LatentStatsOptions& options, std::size_t step) const {
    LatentStats made(options);
    for (std::size_t begin = 0; begin < rows(); begin += step) {
      const std::size_t end = std::min(rows(), begin + step);
      made.add(view(begin, end), groups.data() + begin, ids.data() + begin);
    }
    return made;
  }
};

}  // namespace check
