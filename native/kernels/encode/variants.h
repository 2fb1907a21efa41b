// The variants of encoding; contract in encode.h.
#pragma once
#include "native/kernels/encode/encode.h"

namespace personascope {
extern const EncodeKernels encode_reference;
extern const EncodeKernels encode_avx2;
extern const EncodeKernels encode_avx512;
}  // namespace personascope
