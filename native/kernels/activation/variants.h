// The variants of the activation kernels; contract in activation.h.
#pragma once
#include "native/kernels/activation/activation.h"

namespace personascope {
extern const ActivationKernels activation_reference;
extern const ActivationKernels activation_avx2;
extern const ActivationKernels activation_avx512;
}  // namespace personascope
