// Softmax over Vec. Included by avx2.cc and avx512.cc after their vectors and math_lanes.h.

namespace personascope {
namespace {

float run_maximum(const float* x, std::size_t count) {
  Vec m = v_set(x[0]);
  std::size_t i = 0;
  for (; i + kLanes <= count; i += kLanes) m = v_max(v_load(x + i), m);
  if (i < count) {
    const Mask rest = v_first(count - i);
    m = v_max(v_select(rest, v_load(x + i, rest), m), m);
  }
  return v_max_lane(m);
}

float run_exponentials(const float* x, std::size_t count, float shift, float scale, float* y) {
  const Vec from = v_set(shift), by = v_set(scale);
  Vec s0 = v_zero(), s1 = v_zero();
  std::size_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    const Vec e0 = v_exp(v_mul(v_sub(v_load(x + i), from), by));
    const Vec e1 = v_exp(v_mul(v_sub(v_load(x + i + kLanes), from), by));
    s0 = v_add(s0, e0);
    s1 = v_add(s1, e1);
    v_store(y + i, e0);
    v_store(y + i + kLanes, e1);
  }
  for (; i < count; i += kLanes) {
    const Mask m = v_first(count - i < kLanes ? count - i : kLanes);
    const Vec e = v_select(m, v_exp(v_mul(v_sub(v_load(x + i, m), from), by)), v_zero());
    s0 = v_add(s0, e);
    v_store(y + i, e, m);
  }
  return v_sum(v_add(s0, s1));
}

}  // namespace
}  // namespace personascope
