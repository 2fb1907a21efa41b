#include "native/kernels/activation/activation.h"

#include <limits>

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

const Activation kKinds[] = {Activation::none, Activation::relu, Activation::gelu_tanh, Activation::gelu_erf,
                             Activation::silu};

// The formulas of activation.h in double.
double value(Activation kind, double x) {
  switch (kind) {
    case Activation::none:
      return x;
    case Activation::relu:
      return std::max(x, 0.0);
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * std::pow(x, 3))));
    case Activation::gelu_erf:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Activation::silu:
      return x / (1 + std::exp(-x));
  }
  return 0;
}

double derivative(Activation kind, double x) {
  if (kind == Activation::relu) return x > 0;
  const double h = 1e-4;  // fourth order: error near 1e-13 + 1e-12 |x|
  return (8 * (value(kind, x + h) - value(kind, x - h)) - (value(kind, x + 2 * h) - value(kind, x - 2 * h))) /
         (12 * h);
}

// Values dense near 0, far out, and a sweep.
std::vector<float> inputs() {
  std::vector<float> x;
  for (double v = -30; v <= 30; v += 0.00917) x.push_back(static_cast<float>(v));
  for (double v :
       {0.0, 1e-30, 1e-10, 1e-4, 87.0, 88.5, 89.0, 100.0, 104.0, 150.0, 1e3, 1e4, 1e10, 1e19, 1e30, 3e38})
    for (double sign : {1.0, -1.0}) x.push_back(static_cast<float>(sign * v));
  return x;
}

}  // namespace

TEST(values_and_derivatives_within_the_stated_error) {
  const auto x = inputs();
  check::each_isa([&](Isa isa) {
    for (Activation kind : kKinds) {
      std::vector<float> y(x.size()), ones(x.size(), 1.0f), dx(x.size());
      activation_forward({kind, 1, x.size(), x.data(), x.size(), y.data(), y.size()});
      activation_backward(
          {kind, 1, x.size(), x.data(), x.size(), ones.data(), x.size(), dx.data(), x.size()});
      double worst = 0, worst_slope = 0;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double expected = value(kind, x[i]);
        worst = std::max(worst, std::fabs(y[i] - expected) / std::max(1.0, std::fabs(expected)));
        CHECK(!std::isnan(y[i]) && !std::isnan(dx[i]));
        // Far out the difference quotient is useless: the slope is 0 or 1.
        const double slope =
            std::fabs(x[i]) > 100 ? (kind == Activation::none || x[i] > 0) : derivative(kind, x[i]);
        worst_slope = std::max(worst_slope, std::fabs(dx[i] - slope));
      }
      if (!(worst <= 1e-6 && worst_slope <= 1e-6))
        check::report(__FILE__, __LINE__,
                      std::string(isa_name(isa)) + " kind " + std::to_string(static_cast<int>(kind)) +
                          ": error " + std::to_string(worst * 1e6) + "e-6, slope " +
                          std::to_string(worst_slope * 1e6) + "e-6");
    }
  });
}

TEST(nan_stays_nan) {
  const std::vector<float> x(19, std::numeric_limits<float>::quiet_NaN());
  check::each_isa([&](Isa) {
    for (Activation kind : kKinds) {
      std::vector<float> y(19), ones(19, 1.0f), dx(19);
      activation_forward({kind, 1, 19, x.data(), 19, y.data(), 19});
      activation_backward({kind, 1, 19, x.data(), 19, ones.data(), 19, dx.data(), 19});
      for (int i = 0; i < 19; ++i) {
        CHECK(std::isnan(y[i]));
        CHECK(std::isnan(dx[i]) || kind == Activation::none);
      }
    }
  });
}

TEST(strides_widths_and_in_place) {
  check::each_isa([&](Isa) {
    for (std::size_t width : {1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 63, 65, 257})
      for (std::size_t rows : {1, 5, 70}) {
        const std::size_t stride = width + 3;
        const auto x = check::normal(rows * stride, 1, 2);
        bool same = true;
        const auto y = check::each_thread_count(
            [&] {
              auto inout = x;
              activation_forward(
                  {Activation::gelu_tanh, rows, width, inout.data(), stride, inout.data(), stride});
              return inout;
            },
            same);
        CHECK(same);
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t i = 0; i < stride; ++i) {
            const float in = x[r * stride + i], out = y[r * stride + i];
            if (i >= width)
              CHECK_EQ(out, in);
            else
              CHECK_CLOSE(out, value(Activation::gelu_tanh, in), 1e-6 * std::max(1.0f, std::fabs(in)));
          }
        // Backward in place over dy.
        const auto dy = check::normal(rows * stride, 2);
        auto dx = dy;
        activation_backward(
            {Activation::gelu_erf, rows, width, x.data(), stride, dx.data(), stride, dx.data(), stride});
        for (std::size_t r = 0; r < rows; ++r)
          for (std::size_t i = 0; i < stride; ++i) {
            const std::size_t at = r * stride + i;
            if (i >= width)
              CHECK_EQ(dx[at], dy[at]);
            else
              CHECK_CLOSE(dx[at], dy[at] * derivative(Activation::gelu_erf, x[at]), 5e-6);
          }
      }
  });
}

TEST(gated_forward_and_backward) {
  check::each_isa([&](Isa) {
    for (Activation kind : kKinds)
      for (std::size_t width : {1, 8, 15, 17, 64, 100}) {
        const std::size_t rows = 9, stride = 2 * width + 1;  // gate and up side by side
        const auto x = check::normal(rows * stride, 3, 2), dy = check::normal(rows * width, 4);
        bool same = true;
        const auto out = check::each_thread_count(
            [&] {
              std::vector<float> y(rows * width);
              gated_forward({kind, rows, width, x.data(), stride, x.data() + width, stride, y.data(), width});
              auto d = x;  // gradients take the place of gate and up
              gated_backward({kind, rows, width, d.data(), stride, d.data() + width, stride, dy.data(), width,
                              d.data(), stride, d.data() + width, stride});
              y.insert(y.end(), d.begin(), d.end());
              return y;
            },
            same);
        CHECK(same);
        const float* d = out.data() + rows * width;
        for (std::size_t r = 0; r < rows; ++r) {
          for (std::size_t i = 0; i < width; ++i) {
            const double gate = x[r * stride + i], up = x[r * stride + width + i], g = dy[r * width + i];
            CHECK_CLOSE(out[r * width + i], value(kind, gate) * up, 1e-5);
            CHECK_CLOSE(d[r * stride + i], g * up * derivative(kind, gate), 2e-5);
            CHECK_CLOSE(d[r * stride + width + i], g * value(kind, gate), 2e-5);
          }
          CHECK_EQ(d[r * stride + 2 * width], x[r * stride + 2 * width]);
        }
      }
  });
}

TEST(unknown_kind_is_an_error) {
  float x = 0;
  CHECK_THROWS(activation_forward({static_cast<Activation>(9), 1, 1, &x, 1, &x, 1}),
               ErrorCode::invalid_argument);
}
