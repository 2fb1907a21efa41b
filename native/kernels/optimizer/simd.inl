// AdamW and sums of squares over Vec; included by avx2.cc and avx512.cc after their vectors.

namespace personascope {
namespace {

void adamw(float* params, const float* grads, float* m, float* v, std::size_t count, const AdamWScalars& s) {
  const Vec beta1 = v_set(s.beta1), rest1 = v_set(s.one_minus_beta1), beta2 = v_set(s.beta2);
  const Vec rest2 = v_set(s.one_minus_beta2), scale = v_set(s.grad_scale), decay = v_set(s.decay);
  const Vec step = v_set(s.step_size), correction = v_set(s.inv_sqrt_correction2), eps = v_set(s.eps);
  for (std::size_t i = 0; i < count; i += kLanes) {
    const Mask mask = v_first(count - i < kLanes ? count - i : kLanes);
    const Vec g = v_mul(v_load(grads + i, mask), scale);
    const Vec first = v_fma(beta1, v_load(m + i, mask), v_mul(rest1, g));
    const Vec second = v_fma(beta2, v_load(v + i, mask), v_mul(rest2, v_mul(g, g)));
    const Vec update = v_div(first, v_fma(v_sqrt(second), correction, eps));
    v_store(m + i, first, mask);
    v_store(v + i, second, mask);
    v_store(params + i, v_fnma(step, update, v_mul(v_load(params + i, mask), decay)), mask);
  }
}

double block_sum_of_squares(std::size_t count, const float* x) {
  VecDouble s0, s1;
  std::size_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const Vec a = v_load(x + i), b = v_load(x + i + kLanes);
    s0.add_product(a, a);
    s1.add_product(b, b);
  }
  for (; i < count; i += kLanes) {
    const Vec a = v_load(x + i, v_first(count - i < kLanes ? count - i : kLanes));
    s0.add_product(a, a);
  }
  return s0.sum() + s1.sum();
}

}  // namespace
}  // namespace personascope
