// The tile kernel over Vec: `rows` x (a few vectors) of C in registers, one pass over k. Included by avx2.cc
// and avx512.cc, which choose the shapes that fill their registers without spilling.

namespace personascope {
namespace {

constexpr std::size_t kPanelVecs = kGemmPanel / kLanes;

// C[R, V vectors] over all of k. `a` is packed [k][R]; vector v of B's row p is at
// panels[v / kPanelVecs * panel_stride + p*16 + v % kPanelVecs * kLanes]. `columns` of C are valid.
template <int R, int V>
inline __attribute__((always_inline)) void tile_body(std::size_t k, const float* a, const float* panels,
                                                     std::size_t panel_stride, float* c, std::size_t ldc,
                                                     float alpha, const float* bias, bool accumulate,
                                                     std::size_t columns) {
  Vec sum[R][V];
#pragma GCC unroll 32
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) sum[r][v] = v_zero();
  const float* base[(V + kPanelVecs - 1) / kPanelVecs];
#pragma GCC unroll 32
  for (std::size_t p = 0; p < (V + kPanelVecs - 1) / kPanelVecs; ++p) base[p] = panels + p * panel_stride;
  const std::size_t bytes = k * kGemmPanel;
  for (std::size_t p = 0; p < bytes; p += kGemmPanel) {
    Vec b[V];
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) b[v] = v_load(base[v / kPanelVecs] + p + v % kPanelVecs * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const Vec x = v_set(a[r]);
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) sum[r][v] = v_fma(x, b[v], sum[r][v]);
    }
    a += R;
  }
  const Vec scale = v_set(alpha);
#pragma GCC unroll 32
  for (int v = 0; v < V; ++v) {
    const std::size_t column = static_cast<std::size_t>(v) * kLanes;
    if (column >= columns) break;
    const bool whole = columns - column >= kLanes;
    const Mask mask = whole ? v_first(kLanes) : v_first(columns - column);
    const Vec first = bias ? v_load(bias + column, mask) : v_zero();
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      float* at = c + static_cast<std::size_t>(r) * ldc + column;
      Vec start = first;
      if (whole) {
        if (accumulate) start = v_add(start, v_load(at));
        v_store(at, v_fma(scale, sum[r][v], start));
      } else {
        if (accumulate) start = v_add(start, v_load(at, mask));
        v_store(at, v_fma(scale, sum[r][v], start), mask);
      }
    }
  }
}

// All columns, V vectors at a time, then the rest with the next smaller shapes.
template <int R, int V>
void tile_rows(std::size_t n, std::size_t k, const float* a, const float* panels, std::size_t panel_stride,
               float* c, std::size_t ldc, float alpha, const float* bias, bool accumulate) {
  constexpr std::size_t kWidth = V * kLanes;
  while (n > 0) {
    if constexpr (V > static_cast<int>(kPanelVecs)) {
      // A narrower shape does where it covers the rest.
      constexpr int kHalf = V / 2 < static_cast<int>(kPanelVecs) ? static_cast<int>(kPanelVecs) : V / 2;
      if (n <= kHalf * kLanes) {
        tile_rows<R, kHalf>(n, k, a, panels, panel_stride, c, ldc, alpha, bias, accumulate);
        return;
      }
    }
    const std::size_t columns = n < kWidth ? n : kWidth;
    tile_body<R, V>(k, a, panels, panel_stride, c, ldc, alpha, bias, accumulate, columns);
    n -= columns;
    panels += kWidth / kGemmPanel * panel_stride;
    c += columns;
    if (bias) bias += columns;
  }
}

void pack_rest(const float* a, std::size_t lda, std::size_t rows, std::size_t k, std::size_t from,
               float* packed) {
  for (std::size_t p = from; p < k; ++p)
    for (std::size_t i = 0; i < rows; ++i) packed[p * rows + i] = a[i * lda + p];
}

// Copies k rows of `width` values each (source rows ld apart) one behind the other, `out` values apart.
void copy_rows(const float* source, std::size_t ld, std::size_t width, std::size_t k, float* out,
               std::size_t step) {
  for (std::size_t p = 0; p < k; ++p) {
    std::size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) v_store(out + i, v_load(source + i));
    if (i < width) {
      const Mask mask = v_first(width - i);
      v_store(out + i, v_load(source + i, mask), mask);
    }
    source += ld;
    out += step;
  }
}

void pack_a(const float* a, std::size_t lda, bool transpose, std::size_t rows, std::size_t k, float* packed) {
  if (transpose) {
    copy_rows(a, lda, rows, k, packed, rows);
    return;
  }
  pack_rest(a, lda, rows, k, transpose_rows(a, lda, rows, k, packed, rows), packed);
}

void pack_b(const float* b, std::size_t ldb, bool transpose, std::size_t k, std::size_t n, float* panels) {
  for (std::size_t j = 0; j < n; j += kGemmPanel, panels += k * kGemmPanel) {
    const std::size_t columns = n - j < kGemmPanel ? n - j : kGemmPanel;
    if (columns < kGemmPanel)
      for (std::size_t i = 0; i < k * kGemmPanel; ++i) panels[i] = 0;
    if (!transpose) {
      copy_rows(b + j, ldb, columns, k, panels, kGemmPanel);
      continue;
    }
    const float* source = b + j * ldb;
    const std::size_t done = transpose_rows(source, ldb, columns, k, panels, kGemmPanel);
    for (std::size_t p = done; p < k; ++p)
      for (std::size_t i = 0; i < columns; ++i) panels[p * kGemmPanel + i] = source[i * ldb + p];
  }
}

void block_column_sums(std::size_t rows, std::size_t width, const float* x, std::size_t stride, float* sums) {
  std::size_t j = 0;
  for (; j + 4 * kLanes <= width; j += 4 * kLanes) {
    Vec s[4];
    for (int v = 0; v < 4; ++v) s[v] = v_load(sums + j + v * kLanes);
    for (std::size_t r = 0; r < rows; ++r)
      for (int v = 0; v < 4; ++v) s[v] = v_add(s[v], v_load(x + r * stride + j + v * kLanes));
    for (int v = 0; v < 4; ++v) v_store(sums + j + v * kLanes, s[v]);
  }
  for (; j < width; j += kLanes) {
    const Mask mask = v_first(width - j < kLanes ? width - j : kLanes);
    Vec s = v_load(sums + j, mask);
    for (std::size_t r = 0; r < rows; ++r) s = v_add(s, v_load(x + r * stride + j, mask));
    v_store(sums + j, s, mask);
  }
}

}  // namespace
}  // namespace personascope
