// Element-wise activations of the feed-forward block, forward and backward, fp32.
//
//   relu       max(x, 0)                                  (derivative 0 at x = 0)
//   gelu_tanh  x/2 (1 + tanh(sqrt(2/pi)(x + 0.044715x^3)))  ("gelu_new", GPT-2)
//   gelu_erf   x/2 (1 + erf(x / sqrt 2))                  (exact; Hendrycks & Gimpel 2016)
//   silu       x / (1 + exp(-x))
//
// The vectorised forms agree with exact arithmetic within 1e-6 x max(1, |y|) for every finite x. NaN stays
// NaN.
#pragma once
#include <cstddef>

#include "native/core/isa.h"

namespace personascope {

enum class Activation : int { none = 0, relu, gelu_tanh, gelu_erf, silu };

// A block of `rows` rows of `width` values; row r of a pointer p with stride s starts at p + r*s.
struct ActivationArgs {
  Activation kind = Activation::relu;
  std::size_t rows = 0, width = 0;
  const float* x = nullptr;  // [rows, width]
  std::size_t x_stride = 0;
  float* y = nullptr;  // [rows, width], y = act(x); may be x
  std::size_t y_stride = 0;
};
void activation_forward(const ActivationArgs& args);

struct ActivationBackwardArgs {
  Activation kind = Activation::relu;
  std::size_t rows = 0, width = 0;
  const float* x = nullptr;  // [rows, width], the input of the forward pass
  std::size_t x_stride = 0;
  const float* dy = nullptr;  // [rows, width]
  std::size_t dy_stride = 0;
  float* dx = nullptr;  // [rows, width], dx = dy * act'(x); may be dy
  std::size_t dx_stride = 0;
};
void activation_backward(const ActivationBackwardArgs& args);

// Gated unit (SwiGLU when kind = silu; Shazeer 2020): y = act(gate) * up.
struct GatedArgs {
  Activation kind = Activation::silu;
  std::size_t rows = 0, width = 0;
  const float* gate = nullptr;  // [rows, width]
  std::size_t gate_stride = 0;
  const float* up = nullptr;  // [rows, width]
  std::size_t up_stride = 0;
  float* y = nullptr;  // [rows, width]; may be gate or up
  std::size_t y_stride = 0;
};
void gated_forward(const GatedArgs& args);

struct GatedBackwardArgs {
  Activation kind = Activation::silu;
  std::size_t rows = 0, width = 0;
  const float* gate = nullptr;  // [rows, width], as in the forward pass
  std::size_t gate_stride = 0;
  const float* up = nullptr;
  std::size_t up_stride = 0;
  const float* dy = nullptr;  // [rows, width]
  std::size_t dy_stride = 0;
  float* dgate = nullptr;  // [rows, width] = dy * up * act'(gate); may be gate
  std::size_t dgate_stride = 0;
  float* dup = nullptr;  // [rows, width] = dy * act(gate); may be up
  std::size_t dup_stride = 0;
};
void gated_backward(const GatedBackwardArgs& args);

// The variants work on rows [begin, end).
struct ActivationKernels {
  void (*forward)(const ActivationArgs&, std::size_t begin, std::size_t end);
  void (*backward)(const ActivationBackwardArgs&, std::size_t begin, std::size_t end);
  void (*gated_forward)(const GatedArgs&, std::size_t begin, std::size_t end);
  void (*gated_backward)(const GatedBackwardArgs&, std::size_t begin, std::size_t end);
};
const Variants<ActivationKernels>& activation_variants();

}  // namespace personascope
