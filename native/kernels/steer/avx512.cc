// Steering with AVX-512; the body is simd.inl.
#include "native/kernels/steer/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/simd/canonical.h"

#include "native/kernels/steer/simd.inl"

namespace personascope {

void steer_avx512(const SteerArgs& args, std::size_t begin, std::size_t end) {
  steer_rows(args, begin, end);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
