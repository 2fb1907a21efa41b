// Screening in bf16; contract in screen.h. Rows of weights are bf16, of an even width or zero beyond it.
#pragma once
#include "native/kernels/encode/screen.h"

namespace personascope {
extern const ScreenKernels bf16_reference;
extern const ScreenKernels bf16_avx2;
extern const ScreenKernels bf16_avx512;  // needs AVX-512 BF16
}  // namespace personascope
