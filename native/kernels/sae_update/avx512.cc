// The SAE's training step with AVX-512; the body is simd.inl.
#include "native/kernels/sae_update/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/simd/canonical.h"

#include "native/kernels/sae_update/simd.inl"

namespace personascope {

const SaeUpdateKernels sae_update_avx512 = {update, adam};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
