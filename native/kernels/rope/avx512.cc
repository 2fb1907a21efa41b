// Rotary embedding with AVX-512; the body is simd.inl.
#include "native/kernels/rope/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/rope/simd.inl"

namespace personascope {

void rope_avx512(const RopeArgs& args, const float* cos, const float* sin, std::size_t begin,
                 std::size_t end) {
  rotate(args, cos, sin, args.table->half, begin, end);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
