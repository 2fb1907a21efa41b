// Normalisation of each row, forward and backward, fp32, with the residual addition in front of it fused.
//
//   layer norm (Ba et al. 2016):           y = (s - mean) * rstd * gamma + beta,  rstd = 1 / sqrt(var + eps)
//   rms norm (Zhang & Sennrich 2019):      y = s * rstd * gamma,                  rstd = 1 / sqrt(mean(s^2) +
//   eps)
//
// where s = x, or x + residual where a residual is given. Variance is over the width (biased, as in torch).
#pragma once
#include <cstddef>

#include "native/core/isa.h"

namespace personascope {

enum class Norm : int { layer = 0, rms = 1 };

struct NormArgs {
  Norm kind = Norm::layer;
  std::size_t rows = 0, width = 0;
  float eps = 1e-5f;
  const float* x = nullptr;         // [rows, width]
  const float* residual = nullptr;  // [rows, width] or null
  float* sum = nullptr;             // [rows, width], s; needed with a residual; may be x or residual
  const float* gamma = nullptr;     // [width]
  const float* beta = nullptr;      // [width] or null (layer norm only)
  float* y = nullptr;               // [rows, width]; may be x where sum is another array
  float* mean = nullptr;            // [rows] or null (layer norm only)
  float* rstd = nullptr;            // [rows] or null
};
void norm_forward(const NormArgs& args);

struct NormBackwardArgs {
  Norm kind = Norm::layer;
  std::size_t rows = 0, width = 0;
  const float* x = nullptr;      // [rows, width], s of the forward pass
  const float* gamma = nullptr;  // [width]
  const float* mean = nullptr;   // [rows] (layer norm)
  const float* rstd = nullptr;   // [rows]
  const float* dy = nullptr;     // [rows, width]
  float* dx = nullptr;           // [rows, width]; may be dy
  bool accumulate_dx = false;    // dx += instead of =: the residual path's gradient is in dx already
  float* dgamma = nullptr;       // [width], added to; null: not wanted
  float* dbeta = nullptr;        // [width], added to; null: not wanted
};
void norm_backward(const NormBackwardArgs& args);

// The variants work on rows [begin, end). Backward adds to dgamma/dbeta (partial sums of a block) without
// regard to other callers: the dispatcher gives each block of rows its own.
struct NormKernels {
  void (*forward)(const NormArgs&, std::size_t begin, std::size_t end);
  void (*backward)(const NormBackwardArgs&, std::size_t begin, std::size_t end, float* dgamma, float* dbeta);
};
const Variants<NormKernels>& norm_variants();

}  // namespace personascope
