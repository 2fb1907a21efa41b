// The variants of encoding; contract in screen.h.
#pragma once
#include "native/kernels/encode/screen.h"

namespace personascope {
extern const EncodeKernels encode_reference;
extern const EncodeKernels encode_avx2;
extern const EncodeKernels encode_avx512;

// Puts a screened latent into its token's list if it may be a code; for plain kernels.
void push_reference(const ScreenArgs& args, std::size_t token, std::size_t latent, float value, float slack);
}  // namespace personascope
