// Norms over Vec; included by avx2.cc and avx512.cc after their vectors.

namespace personascope {
namespace {

// Sum of f(i, mask or whole) over a row in two running vectors.
template <class F>
inline __attribute__((always_inline)) float row_sum(std::size_t n, F f) {
  Vec s0 = v_zero(), s1 = v_zero();
  std::size_t i = 0;
  const Mask all = v_first(kLanes);
  for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
    s0 = v_add(s0, f(i, all));
    s1 = v_add(s1, f(i + kLanes, all));
  }
  for (; i < n; i += kLanes) s0 = v_add(s0, f(i, v_first(n - i < kLanes ? n - i : kLanes)));
  return v_sum(v_add(s0, s1));
}

void forward(const NormArgs& a, std::size_t begin, std::size_t end) {
  const std::size_t n = a.width;
  const float inverse = 1.0f / static_cast<float>(n);
  const bool layer = a.kind == Norm::layer;
  for (std::size_t r = begin; r < end; ++r) {
    const float* s = a.x + r * n;
    if (a.sum) {
      const float* x = s;
      const float* residual = a.residual ? a.residual + r * n : nullptr;
      float* sum = a.sum + r * n;
      for (std::size_t i = 0; i < n; i += kLanes) {
        const Mask m = v_first(n - i < kLanes ? n - i : kLanes);
        const Vec v = v_load(x + i, m);
        v_store(sum + i, residual ? v_add(v, v_load(residual + i, m)) : v, m);
      }
      s = sum;
    }
    float mean = 0;
    if (layer) mean = row_sum(n, [&](std::size_t i, Mask m) { return v_load(s + i, m); }) * inverse;
    const Vec centre = v_set(mean);
    // Behind the width the lanes must stay 0 though the mean is subtracted.
    const float square = row_sum(n, [&](std::size_t i, Mask m) {
      const Vec d = v_sub(v_load(s + i, m), v_select(m, centre, v_zero()));
      return v_mul(d, d);
    });
    const float rstd = 1.0f / __builtin_sqrtf(square * inverse + a.eps);
    const Vec scale = v_set(rstd);
    float* y = a.y + r * n;
    const float* beta = layer ? a.beta : nullptr;
    for (std::size_t i = 0; i < n; i += kLanes) {
      const Mask m = v_first(n - i < kLanes ? n - i : kLanes);
      const Vec x = v_mul(v_sub(v_load(s + i, m), centre), scale), gamma = v_load(a.gamma + i, m);
      v_store(y + i, beta ? v_fma(x, gamma, v_load(beta + i, m)) : v_mul(x, gamma), m);
    }
    if (a.mean) a.mean[r] = mean;
    if (a.rstd) a.rstd[r] = rstd;
  }
}

// dx = rstd (g - mean(g) - x^ mean(g x^)), g = dy gamma, x^ = (s - mean) rstd; without mean(g) for RMS.
void backward(const NormBackwardArgs& a, std::size_t begin, std::size_t end, float* dgamma, float* dbeta) {
  const std::size_t n = a.width;
  const float inverse = 1.0f / static_cast<float>(n);
  const bool layer = a.kind == Norm::layer;
  for (std::size_t r = begin; r < end; ++r) {
    const float* s = a.x + r * n;
    const float* dy = a.dy + r * n;
    float* dx = a.dx + r * n;
    const Vec mean = v_set(layer ? a.mean[r] : 0.0f), rstd = v_set(a.rstd[r]);
    Vec g_sum = v_zero(), gx_sum = v_zero();
    for (std::size_t i = 0; i < n; i += kLanes) {
      const Mask m = v_first(n - i < kLanes ? n - i : kLanes);
      const Vec d = v_load(dy + i, m), x = v_mul(v_sub(v_load(s + i, m), mean), rstd);
      const Vec g = v_mul(d, v_load(a.gamma + i, m));
      g_sum = v_add(g_sum, g);
      gx_sum = v_fma(g, x, gx_sum);
      if (dgamma) v_store(dgamma + i, v_fma(d, x, v_load(dgamma + i, m)), m);
      if (dbeta) v_store(dbeta + i, v_add(d, v_load(dbeta + i, m)), m);
    }
    const Vec g_mean = v_set(layer ? v_sum(g_sum) * inverse : 0.0f), gx_mean = v_set(v_sum(gx_sum) * inverse);
    for (std::size_t i = 0; i < n; i += kLanes) {
      const Mask m = v_first(n - i < kLanes ? n - i : kLanes);
      const Vec x = v_mul(v_sub(v_load(s + i, m), mean), rstd);
      const Vec g = v_mul(v_load(dy + i, m), v_load(a.gamma + i, m));
      const Vec value = v_fnma(x, gx_mean, v_sub(g, g_mean));
      v_store(dx + i, a.accumulate_dx ? v_fma(rstd, value, v_load(dx + i, m)) : v_mul(rstd, value), m);
    }
  }
}

}  // namespace
}  // namespace personascope
