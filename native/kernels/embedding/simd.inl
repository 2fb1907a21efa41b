// Gather and add over Vec; included by avx2.cc and avx512.cc after their vectors.

namespace personascope {
namespace {

void forward(const EmbeddingArgs& a, std::size_t begin, std::size_t end) {
  const std::size_t n = a.width;
  for (std::size_t t = begin; t < end; ++t) {
    const float* token = a.table + static_cast<std::size_t>(a.ids[t]) * n;
    const float* position =
        a.position_table ? a.position_table + static_cast<std::size_t>(a.positions[t]) * n : nullptr;
    float* y = a.y + t * n;
    for (std::size_t i = 0; i < n; i += kLanes) {
      const Mask m = v_first(n - i < kLanes ? n - i : kLanes);
      const Vec v = v_load(token + i, m);
      v_store(y + i, position ? v_add(v, v_load(position + i, m)) : v, m);
    }
  }
}

void add(float* row, const float* dy, std::size_t width) {
  for (std::size_t i = 0; i < width; i += kLanes) {
    const Mask m = v_first(width - i < kLanes ? width - i : kLanes);
    v_store(row + i, v_add(v_load(row + i, m), v_load(dy + i, m)), m);
  }
}

}  // namespace
}  // namespace personascope
