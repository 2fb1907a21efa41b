// Cross-entropy with AVX-512; the body is simd.inl.
#include "native/kernels/cross_entropy/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/simd/math_lanes.h"

#include "native/kernels/cross_entropy/simd.inl"

namespace personascope {

void cross_entropy_avx512(const CrossEntropyArgs& args, std::size_t begin, std::size_t end) {
  run(args, begin, end);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
