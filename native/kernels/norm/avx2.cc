// Norms with AVX2; the body is simd.inl.
#include "native/kernels/norm/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/norm/simd.inl"

namespace personascope {

const NormKernels norm_avx2 = {forward, backward};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
