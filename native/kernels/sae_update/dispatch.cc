#include "native/kernels/sae_update/variants.h"

namespace personascope {

const Variants<SaeUpdateKernels>& sae_update_variants() {
  static const Variants<SaeUpdateKernels> variants = {sae_update_reference, sae_update_avx2,
                                                      sae_update_avx512};
  return variants;
}

}  // namespace personascope
