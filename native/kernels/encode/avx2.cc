// Encoding with AVX2 + FMA; the body is simd.inl.
#include "native/kernels/encode/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/canonical.h"

#include "native/kernels/encode/push.inl"

#include "native/kernels/encode/simd.inl"

namespace personascope {

const EncodeKernels encode_avx2 = kKernels;

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
