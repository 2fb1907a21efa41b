// The variants of softmax; contract in softmax.h.
#pragma once
#include "native/kernels/softmax/softmax.h"

namespace personascope {
float softmax_maximum_reference(const float* x, std::size_t count);
float softmax_maximum_avx2(const float* x, std::size_t count);
float softmax_maximum_avx512(const float* x, std::size_t count);
float softmax_exponentials_reference(const float* x, std::size_t count, float shift, float scale, float* y);
float softmax_exponentials_avx2(const float* x, std::size_t count, float shift, float scale, float* y);
float softmax_exponentials_avx512(const float* x, std::size_t count, float shift, float scale, float* y);
}  // namespace personascope
