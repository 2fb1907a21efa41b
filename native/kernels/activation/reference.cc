// Plain activations, computed in double and rounded once.
#include <cmath>

#include "native/kernels/activation/variants.h"

namespace personascope {

namespace {

constexpr double kSqrt2OverPi = 0.7978845608028654, kInvSqrt2 = 0.7071067811865476;
constexpr double kInvSqrt2Pi = 0.3989422804014327;

double value(Activation kind, double x) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::relu:
      return x < 0 ? 0 : x;
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf:
      return 0.5 * x * (1 + std::erf(x * kInvSqrt2));
    case Activation::silu:
      return x / (1 + std::exp(-x));
  }
  return x;
}

double derivative(Activation kind, double x) {
  switch (kind) {
    case Activation::none:
      return 1;
    case Activation::relu:
      return x > 0 ? 1 : x <= 0 ? 0 : x;
    case Activation::gelu_tanh: {
      const double t = std::tanh(kSqrt2OverPi * (x + 0.044715 * x * x * x));
      const double inner = kSqrt2OverPi * (1 + 3 * 0.044715 * x * x);
      // 1 - t^2 vanishes long before x^2 overflows.
      const double rest = (1 - t) * (1 + t);
      return 0.5 * (1 + t) + (rest == 0 ? 0 : 0.5 * x * rest * inner);
    }
    case Activation::gelu_erf:
      return 0.5 * (1 + std::erf(x * kInvSqrt2)) + x * kInvSqrt2Pi * std::exp(-0.5 * x * x);
    case Activation::silu: {
      const double s = 1 / (1 + std::exp(-x));
      return s * (1 + x * (1 - s));
    }
  }
  return 1;
}

void forward(const ActivationArgs& a, std::size_t begin, std::size_t end) {
  for (std::size_t r = begin; r < end; ++r)
    for (std::size_t i = 0; i < a.width; ++i)
      a.y[r * a.y_stride + i] = static_cast<float>(value(a.kind, a.x[r * a.x_stride + i]));
}

void backward(const ActivationBackwardArgs& a, std::size_t begin, std::size_t end) {
  for (std::size_t r = begin; r < end; ++r)
    for (std::size_t i = 0; i < a.width; ++i)
      a.dx[r * a.dx_stride + i] =
          static_cast<float>(a.dy[r * a.dy_stride + i] * derivative(a.kind, a.x[r * a.x_stride + i]));
}

void gated_forward(const GatedArgs& a, std::size_t begin, std::size_t end) {
  for (std::size_t r = begin; r < end; ++r)
    for (std::size_t i = 0; i < a.width; ++i)
      a.y[r * a.y_stride + i] =
          static_cast<float>(value(a.kind, a.gate[r * a.gate_stride + i]) * a.up[r * a.up_stride + i]);
}

void gated_backward(const GatedBackwardArgs& a, std::size_t begin, std::size_t end) {
  for (std::size_t r = begin; r < end; ++r)
    for (std::size_t i = 0; i < a.width; ++i) {
      const double gate = a.gate[r * a.gate_stride + i], up = a.up[r * a.up_stride + i];
      const double dy = a.dy[r * a.dy_stride + i];
      a.dgate[r * a.dgate_stride + i] = static_cast<float>(dy * up * derivative(a.kind, gate));
      a.dup[r * a.dup_stride + i] = static_cast<float>(dy * value(a.kind, gate));
    }
}

}  // namespace

const ActivationKernels activation_reference = {forward, backward, gated_forward, gated_backward};

}  // namespace personascope
