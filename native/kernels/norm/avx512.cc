// Norms with AVX-512; the body is simd.inl.
#include "native/kernels/norm/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/norm/simd.inl"

namespace personascope {

const NormKernels norm_avx512 = {forward, backward};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
