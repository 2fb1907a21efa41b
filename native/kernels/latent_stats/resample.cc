#include "native/kernels/latent_stats/resample.h"

namespace personascope {

const Variants<ResampleKernel>& resample_variants() {
  static const Variants<ResampleKernel> variants = {resample_reference, resample_avx2, resample_avx512};
  return variants;
}

void resample_reference(const ResampleArgs& args) {
  for (std::size_t r = 0; r < args.resamples; ++r) args.out[r] = 0;
  for (std::size_t e = 0; e < args.entries; ++e)
    for (std::size_t r = 0; r < args.resamples; ++r) args.out[r] += args.counts[e][r] * args.sums[e];
}

}  // namespace personascope
