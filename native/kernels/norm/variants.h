// The variants of the norms; contract in norm.h.
#pragma once
#include "native/kernels/norm/norm.h"

namespace personascope {
extern const NormKernels norm_reference;
extern const NormKernels norm_avx2;
extern const NormKernels norm_avx512;
}  // namespace personascope
