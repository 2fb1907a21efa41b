// AdamW with AVX-512; the body is simd.inl.
#include "native/kernels/optimizer/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/optimizer/simd.inl"

namespace personascope {

const OptimizerKernels optimizer_avx512 = {adamw, block_sum_of_squares};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
