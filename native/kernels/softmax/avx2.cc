// Softmax with AVX2; the body is simd.inl.
#include "native/kernels/softmax/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/math_lanes.h"

#include "native/kernels/softmax/simd.inl"

namespace personascope {

float softmax_maximum_avx2(const float* x, std::size_t count) {
  return run_maximum(x, count);
}
float softmax_exponentials_avx2(const float* x, std::size_t count, float shift, float scale, float* y) {
  return run_exponentials(x, count, shift, scale, y);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
