// The variants of encoding; contract in screen.h.
#pragma once
#include "native/kernels/encode/screen.h"

namespace personascope {
extern const EncodeKernels encode_reference;
extern const EncodeKernels encode_avx2;
extern const EncodeKernels encode_avx512;

// Signs of the rotation (EncodeKernels::rotate).
constexpr bool rotation_sign(std::size_t i) {
  return (i * 0x9E3779B97F4A7C15ull >> 40 & 1) != 0;
}

// Puts a screened latent into its token's list if it may be a code; for plain kernels.
void push_reference(const ScreenArgs& args, std::size_t token, std::size_t latent, float value, float slack);
}  // namespace personascope
