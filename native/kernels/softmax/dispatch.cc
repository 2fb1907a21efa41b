#include "native/kernels/softmax/variants.h"

namespace personascope {

const Variants<SoftmaxKernels>& softmax_variants() {
  static const Variants<SoftmaxKernels> variants = {
      {softmax_maximum_reference, softmax_exponentials_reference},
      {softmax_maximum_avx2, softmax_exponentials_avx2},
      {softmax_maximum_avx512, softmax_exponentials_avx512},
  };
  return variants;
}

}  // namespace personascope
