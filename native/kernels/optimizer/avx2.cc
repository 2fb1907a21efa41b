// AdamW with AVX2; the body is simd.inl.
#include "native/kernels/optimizer/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/optimizer/simd.inl"

namespace personascope {

const OptimizerKernels optimizer_avx2 = {adamw, block_sum_of_squares};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
