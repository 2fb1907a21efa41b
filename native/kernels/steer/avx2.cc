// Steering with AVX2 + FMA; the body is simd.inl.
#include "native/kernels/steer/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/canonical.h"

#include "native/kernels/steer/simd.inl"

namespace personascope {

void steer_avx2(const SteerArgs& args, std::size_t begin, std::size_t end) {
  steer_rows(args, begin, end);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
