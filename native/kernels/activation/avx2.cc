// Activations with AVX2; the body is simd.inl.
#include "native/kernels/activation/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/math_lanes.h"

#include "native/kernels/activation/simd.inl"

namespace personascope {

const ActivationKernels activation_avx2 = {forward, backward, gated_forward, gated_backward};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
