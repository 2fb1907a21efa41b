// Screening in bf16; contract in screen.h. Rows of weights are bf16, of an even width or zero beyond it. CPUs
// without bf16 products have nothing to gain: they screen in int8 or fp32.
#pragma once
#include "native/kernels/encode/screen.h"

namespace personascope {
extern const ScreenKernels bf16_avx512;  // needs AVX-512 BF16
}  // namespace personascope
