// Rotation over Vec; included by avx2.cc and avx512.cc after their vectors.

namespace personascope {
namespace {

void rotate(const RopeArgs& a, const float* cos_table, const float* sin_table, std::size_t half,
            std::size_t begin, std::size_t end) {
  const Vec sign = v_set(a.inverse ? -1.0f : 1.0f);
  for (std::size_t t = begin; t < end; ++t) {
    const float* cos = cos_table + static_cast<std::size_t>(a.positions[t]) * half;
    const float* sin = sin_table + static_cast<std::size_t>(a.positions[t]) * half;
    for (std::size_t i = 0; i < half; i += kLanes) {
      const Mask m = v_first(half - i < kLanes ? half - i : kLanes);
      const Vec c = v_load(cos + i, m), s = v_mul(sign, v_load(sin + i, m));
      for (std::size_t h = 0; h < a.heads; ++h) {
        float* x = a.x + t * a.token_stride + h * a.head_stride + i;
        const Vec x1 = v_load(x, m), x2 = v_load(x + half, m);
        v_store(x, v_fnma(x2, s, v_mul(x1, c)), m);
        v_store(x + half, v_fma(x1, s, v_mul(x2, c)), m);
      }
    }
  }
}

}  // namespace
}  // namespace personascope
