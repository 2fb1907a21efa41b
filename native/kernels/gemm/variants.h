// The variants of the matrix product; contract in gemm.h.
#pragma once
#include "native/kernels/gemm/gemm.h"

namespace personascope {
extern const GemmKernels gemm_reference;
extern const GemmKernels gemm_avx2;
extern const GemmKernels gemm_avx512;
}  // namespace personascope
