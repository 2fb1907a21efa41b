// The SAE's training step with AVX2 + FMA; the body is sae_update.inl.
#include <cstddef>
#include <cstdint>

#include "native/kernels/sae_update/variants.h"
// The vectors come last: they switch the file to their instruction set.
#include "native/kernels/simd/vec_avx2.h"
// clang-format off
#include "native/kernels/sae_update/sae_update.inl"
// clang-format on

namespace personascope {

const SaeUpdateKernels sae_update_avx2 = {update, adam};

}  // namespace personascope
