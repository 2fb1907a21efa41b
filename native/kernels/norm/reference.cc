// Plain norms, sums in double.
#include <cmath>

#include "native/kernels/norm/variants.h"

namespace personascope {

namespace {

void forward(const NormArgs& a, std::size_t begin, std::size_t end) {
  const std::size_t n = a.width;
  for (std::size_t r = begin; r < end; ++r) {
    const float* s = a.x + r * n;
    if (a.residual) {
      for (std::size_t i = 0; i < n; ++i) a.sum[r * n + i] = s[i] + a.residual[r * n + i];
      s = a.sum + r * n;
    } else if (a.sum) {
      for (std::size_t i = 0; i < n; ++i) a.sum[r * n + i] = s[i];
    }
    double mean = 0, square = 0;
    if (a.kind == Norm::layer) {
      for (std::size_t i = 0; i < n; ++i) mean += s[i];
      mean /= static_cast<double>(n);
    }
    for (std::size_t i = 0; i < n; ++i) square += (s[i] - mean) * (s[i] - mean);
    const double rstd = 1 / std::sqrt(square / static_cast<double>(n) + a.eps);
    for (std::size_t i = 0; i < n; ++i) {
      const double beta = a.kind == Norm::layer && a.beta ? a.beta[i] : 0;
      a.y[r * n + i] = static_cast<float>((s[i] - mean) * rstd * a.gamma[i] + beta);
    }
    if (a.mean) a.mean[r] = static_cast<float>(mean);
    if (a.rstd) a.rstd[r] = static_cast<float>(rstd);
  }
}

// With x^ = (s - mean) rstd and g = dy gamma:  dx = rstd (g - mean(g) - x^ mean(g x^)), without mean(g) for
// RMS.
void backward(const NormBackwardArgs& a, std::size_t begin, std::size_t end, float* dgamma, float* dbeta) {
  const std::size_t n = a.width;
  for (std::size_t r = begin; r < end; ++r) {
    const float* s = a.x + r * n;
    const float* dy = a.dy + r * n;
    float* dx = a.dx + r * n;
    const double mean = a.kind == Norm::layer ? a.mean[r] : 0, rstd = a.rstd[r];
    double g_mean = 0, gx_mean = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const double g = static_cast<double>(dy[i]) * a.gamma[i];
      g_mean += g;
      gx_mean += g * (s[i] - mean) * rstd;
    }
    g_mean = a.kind == Norm::layer ? g_mean / static_cast<double>(n) : 0;
    gx_mean /= static_cast<double>(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double x = (s[i] - mean) * rstd, dy_i = dy[i];
      if (dgamma) dgamma[i] += static_cast<float>(dy_i * x);
      if (dbeta) dbeta[i] += static_cast<float>(dy_i);
      const double value = rstd * (dy_i * a.gamma[i] - g_mean - x * gx_mean);
      dx[i] = static_cast<float>(a.accumulate_dx ? dx[i] + value : value);
    }
  }
}

}  // namespace

const NormKernels norm_reference = {forward, backward};

}  // namespace personascope
