// Steering with AVX-512; the body is steer.inl.
#include <cstddef>
#include <cstdint>

#include "native/kernels/steer/variants.h"
// The vectors come last: they switch the file to their instruction set.
#include "native/kernels/simd/vec_avx512.h"
// clang-format off
#include "native/kernels/steer/steer.inl"
// clang-format on

namespace personascope {

void steer_avx512(const SteerArgs& args, std::size_t begin, std::size_t end) {
  steer_rows(args, begin, end);
}

}  // namespace personascope
