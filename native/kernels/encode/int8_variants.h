// Screening in int8; contract in screen.h, layout of the weights in int8_copy.h.
#pragma once
#include "native/kernels/encode/screen.h"

namespace personascope {
extern const ScreenKernels int8_reference;
extern const ScreenKernels int8_avx2;
extern const ScreenKernels int8_avx512;  // needs VNNI
}  // namespace personascope
