// Elementary functions over the lanes of lanes_avx2.h or lanes_avx512.h (include one of them first). Errors
// are measured against double over the whole range in test/native/kernels/activation_test.cc.
#pragma once

namespace personascope {
namespace {

// exp(x), relative error < 2e-7 where the result is a normal number; 0 for x < -104, infinity for x > 89, NaN
// stays. Reduction by ln 2 in two parts, then the Taylor polynomial of degree 7 on [-ln2/2, ln2/2] (its
// truncation is below 5e-9).
inline Vec v_exp(Vec x) {
  x = v_min(v_set(120.0f), v_max(v_set(-120.0f), x));
  const Vec n = v_round(v_mul(x, v_set(1.44269504088896341f)));
  Vec r = v_fnma(n, v_set(0.693359375f), x);
  r = v_fnma(n, v_set(-2.12194440054690583e-4f), r);
  Vec p = v_set(1.0f / 5040);
  p = v_fma(p, r, v_set(1.0f / 720));
  p = v_fma(p, r, v_set(1.0f / 120));
  p = v_fma(p, r, v_set(1.0f / 24));
  p = v_fma(p, r, v_set(1.0f / 6));
  p = v_fma(p, r, v_set(0.5f));
  p = v_fma(p, r, v_set(1.0f));
  p = v_fma(p, r, v_set(1.0f));
  return v_scale(p, n);
}

// The logistic function 1 / (1 + exp(-x)) and its derivative s (1 - s), both without cancellation.
struct Logistic {
  Vec value, slope;
};
inline Logistic v_logistic(Vec x) {
  const Vec t = v_exp(v_sub(v_zero(), v_abs(x)));
  const Vec inverse = v_div(v_set(1.0f), v_add(v_set(1.0f), t));
  const Vec small = v_mul(t, inverse);
  return {v_select(v_less(x, v_zero()), small, inverse), v_mul(small, inverse)};
}

// The normal distribution function and density. Abramowitz & Stegun 7.1.26 (absolute error of erf < 1.5e-7).
struct Normal {
  Vec cdf, pdf;
};
inline Normal v_normal(Vec x) {
  const Vec z = v_mul(v_abs(x), v_set(0.70710678118654752f));
  const Vec e = v_exp(v_mul(v_mul(x, x), v_set(-0.5f)));
  const Vec t = v_div(v_set(1.0f), v_fma(z, v_set(0.3275911f), v_set(1.0f)));
  Vec p = v_set(1.061405429f);
  p = v_fma(p, t, v_set(-1.453152027f));
  p = v_fma(p, t, v_set(1.421413741f));
  p = v_fma(p, t, v_set(-0.284496736f));
  p = v_fma(p, t, v_set(0.254829592f));
  const Vec tail = v_mul(v_mul(v_mul(p, t), e), v_set(0.5f));
  return {v_select(v_less(x, v_zero()), tail, v_sub(v_set(1.0f), tail)),
          v_mul(e, v_set(0.39894228040143268f))};
}

}  // namespace
}  // namespace personascope
