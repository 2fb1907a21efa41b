// Cross-entropy over Vec: the maximum, then the exponentials (kept in dlogits where that is wanted), then
// their scaling. Included by avx2.cc and avx512.cc after their vectors and math_lanes.h.

namespace personascope {
namespace {

void run(const CrossEntropyArgs& a, std::size_t begin, std::size_t end) {
  const std::size_t n = a.vocabulary, whole = n / kLanes * kLanes;
  const Mask rest = v_first(n - whole);
  for (std::size_t r = begin; r < end; ++r) {
    const float* x = a.logits + r * a.logits_stride;
    float* dx = a.dlogits ? a.dlogits + r * a.dlogits_stride : nullptr;
    const float weight = a.weights ? a.weights[r] : 1.0f;
    if (weight == 0) {
      if (a.losses) a.losses[r] = 0;
      if (a.lse) a.lse[r] = 0;
      for (std::size_t j = 0; dx && j < n; j += kLanes)
        v_store(dx + j, v_zero(), v_first(n - j < kLanes ? n - j : kLanes));
      continue;
    }
    const std::size_t target = static_cast<std::size_t>(a.targets[r]);
    Vec m0 = v_set(x[0]), m1 = m0;
    std::size_t j = 0;
    for (; j + 2 * kLanes <= n; j += 2 * kLanes) {
      m0 = v_max(v_load(x + j), m0);
      m1 = v_max(v_load(x + j + kLanes), m1);
    }
    for (; j < whole; j += kLanes) m0 = v_max(v_load(x + j), m0);
    if (whole < n) m1 = v_max(v_select(rest, v_load(x + whole, rest), m1), m1);
    const float max = v_max_lane(v_max(m0, m1));
    const float behind = max - x[target];  // dlogits may be logits

    const Vec shift = v_set(max);
    Vec s0 = v_zero(), s1 = v_zero();
    for (j = 0; j + 2 * kLanes <= n; j += 2 * kLanes) {
      const Vec e0 = v_exp(v_sub(v_load(x + j), shift)), e1 = v_exp(v_sub(v_load(x + j + kLanes), shift));
      s0 = v_add(s0, e0);
      s1 = v_add(s1, e1);
      if (dx) {
        v_store(dx + j, e0);
        v_store(dx + j + kLanes, e1);
      }
    }
    for (; j < n; j += kLanes) {
      const Mask m = v_first(n - j < kLanes ? n - j : kLanes);
      const Vec e = v_select(m, v_exp(v_sub(v_load(x + j, m), shift)), v_zero());
      s0 = v_add(s0, e);
      if (dx) v_store(dx + j, e, m);
    }
    const float sum = v_sum(v_add(s0, s1)), log_sum = __builtin_logf(sum);
    if (a.losses) a.losses[r] = log_sum + behind;
    if (a.lse) a.lse[r] = log_sum + max;
    if (!dx) continue;
    const Vec scale = v_set(weight / sum);
    for (j = 0; j < whole; j += kLanes) v_store(dx + j, v_mul(v_load(dx + j), scale));
    if (whole < n) v_store(dx + whole, v_mul(v_load(dx + whole, rest), scale), rest);
    dx[target] -= weight;
  }
}

}  // namespace
}  // namespace personascope
