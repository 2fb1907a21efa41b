// Attention with AVX2; the body is simd.inl.
#include "native/kernels/attention/variants.h"
#include "native/kernels/attention/visible.h"
#include "native/kernels/gemm/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/math_lanes.h"

static const personascope::GemmKernels& kGemm = personascope::gemm_avx2;

#include "native/kernels/attention/simd.inl"

namespace personascope {

const AttentionKernels attention_avx2 = {forward, backward};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
