// The variants of the SAE's training step; contract in sae_update.h.
#pragma once
#include "native/kernels/sae_update/sae_update.h"

namespace personascope {
extern const SaeUpdateKernels sae_update_reference;
extern const SaeUpdateKernels sae_update_avx2;
extern const SaeUpdateKernels sae_update_avx512;
}  // namespace personascope
