// The variants of the optimizer; contract in optimizer.h.
#pragma once
#include "native/kernels/optimizer/optimizer.h"

namespace personascope {
extern const OptimizerKernels optimizer_reference;
extern const OptimizerKernels optimizer_avx2;
extern const OptimizerKernels optimizer_avx512;
}  // namespace personascope
