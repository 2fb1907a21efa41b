// The variants of attention; contract in attention.h.
#pragma once
#include "native/kernels/attention/attention.h"

namespace personascope {
extern const AttentionKernels attention_reference;
extern const AttentionKernels attention_avx2;
extern const AttentionKernels attention_avx512;
}  // namespace personascope
