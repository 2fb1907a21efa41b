// The parts of a softmax over one row, for drawing from it: the maximum, and unnormalised probabilities.
//
//   y_i = exp(scale (x_i - shift)),  returns sum_i y_i
//
// For x_i <= shift and scale >= 0. A NaN or infinity anywhere in x makes the sum NaN or infinite where shift
// is the maximum of the row. The same number of threads or rows never matters: a row is one call on one
// thread. Agrees with exact arithmetic within 2e-6 relative (and 1e-30 absolute).
#pragma once
#include <cstddef>

#include "native/core/isa.h"

namespace personascope {

struct SoftmaxKernels {
  float (*maximum)(const float* x, std::size_t count);  // count >= 1
  float (*exponentials)(const float* x, std::size_t count, float shift, float scale, float* y);
};
const Variants<SoftmaxKernels>& softmax_variants();

}  // namespace personascope
