// The SAE's training step with AVX2 + FMA; the body is simd.inl.
#include "native/kernels/sae_update/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/canonical.h"

#include "native/kernels/sae_update/simd.inl"

namespace personascope {

const SaeUpdateKernels sae_update_avx2 = {update, adam};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
