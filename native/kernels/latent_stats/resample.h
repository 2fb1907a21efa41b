// Sums over resampled groups, for bootstrap intervals and permutation tests:
//
//   out[r] = sum over e of counts[e][r] * sums[e]
//
// A product and an addition a step, in the order of e, never fused: the same bits on every ISA.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"

namespace personascope {

// Resamples come in whole blocks of this many; tables are padded to it.
constexpr std::size_t kResampleBlock = 64;

struct ResampleArgs {
  const double* sums = nullptr;                  // [entries]
  const std::uint16_t* const* counts = nullptr;  // [entries] rows of [resamples]
  std::size_t entries = 0;
  std::size_t resamples = 0;  // a multiple of kResampleBlock
  double* out = nullptr;      // [resamples]
};

using ResampleKernel = void (*)(const ResampleArgs& args);
const Variants<ResampleKernel>& resample_variants();

void resample_reference(const ResampleArgs& args);
void resample_avx2(const ResampleArgs& args);
void resample_avx512(const ResampleArgs& args);

}  // namespace personascope
