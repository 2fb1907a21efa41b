// Attention with AVX-512; the body is simd.inl.
#include "native/kernels/attention/variants.h"
#include "native/kernels/attention/visible.h"
#include "native/kernels/gemm/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/simd/math_lanes.h"

static const personascope::GemmKernels& kGemm = personascope::gemm_avx512;

#include "native/kernels/attention/simd.inl"

namespace personascope {

const AttentionKernels attention_avx512 = {forward, backward};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
