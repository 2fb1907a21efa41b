// Encoding with AVX2 + FMA; the body is encode.inl.
#include <cstddef>
#include <cstdint>

#include "native/kernels/encode/variants.h"
// The vectors come last: they switch the file to their instruction set.
#include "native/kernels/simd/vec_avx2.h"
// clang-format off
#include "native/kernels/encode/encode.inl"
// clang-format on

namespace personascope {

const EncodeKernels encode_avx2 = {kGroup,        prepare,  pack,         screen,
                                   screen_direct, products, squared_norm, count_at_least};

}  // namespace personascope
