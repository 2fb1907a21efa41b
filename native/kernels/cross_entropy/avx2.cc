// Cross-entropy with AVX2; the body is simd.inl.
#include "native/kernels/cross_entropy/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/math_lanes.h"

#include "native/kernels/cross_entropy/simd.inl"

namespace personascope {

void cross_entropy_avx2(const CrossEntropyArgs& args, std::size_t begin, std::size_t end) {
  run(args, begin, end);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
