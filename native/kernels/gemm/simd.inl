// The tile kernel over Vec: `rows` x (a few vectors) of C in registers, one pass over k. Included by avx2.cc
// and avx512.cc, which choose the shapes that fill their registers without spilling.

namespace personascope {
namespace {

constexpr std::size_t kPanelVecs = kGemmPanel / kLanes;

// C[R, V vectors] over all of k. Row p of `a` holds R values; vector v of B's row p is at
// panels[v / kPanelVecs * panel_stride + p * panel_step + v % kPanelVecs * kLanes]. `columns` of C are valid.
template <int R, int V>
inline __attribute__((always_inline)) void tile_body(std::size_t k, const float* a, std::size_t a_step,
                                                     const float* panels, std::size_t panel_stride,
                                                     std::size_t panel_step, float* c, std::size_t ldc,
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
  const std::size_t end = k * panel_step;
  for (std::size_t p = 0; p < end; p += panel_step) {
    Vec b[V];
#pragma GCC unroll 32
    for (int v = 0; v < V; ++v) b[v] = v_load(base[v / kPanelVecs] + p + v % kPanelVecs * kLanes);
#pragma GCC unroll 32
    for (int r = 0; r < R; ++r) {
      const Vec x = v_set(a[r]);
#pragma GCC unroll 32
      for (int v = 0; v < V; ++v) sum[r][v] = v_fma(x, b[v], sum[r][v]);
    }
    a += a_step;
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
void tile_rows(std::size_t n, std::size_t k, const float* a, std::size_t a_step, const float* panels,
               std::size_t panel_stride, std::size_t panel_step, float* c, std::size_t ldc, float alpha,
               const float* bias, bool accumulate) {
  constexpr std::size_t kWidth = V * kLanes;
  while (n > 0) {
    if constexpr (V > static_cast<int>(kPanelVecs)) {
      // Only panels that exist are read: the rest goes to narrower shapes where this one has a panel too
      // many.
      constexpr int kHalf = V / 2 < static_cast<int>(kPanelVecs) ? static_cast<int>(kPanelVecs) : V / 2;
      if (n + kGemmPanel <= kWidth) {
        tile_rows<R, kHalf>(n, k, a, a_step, panels, panel_stride, panel_step, c, ldc, alpha, bias,
                            accumulate);
        return;
      }
    }
    const std::size_t columns = n < kWidth ? n : kWidth;
    tile_body<R, V>(k, a, a_step, panels, panel_stride, panel_step, c, ldc, alpha, bias, accumulate, columns);
    n -= columns;
    panels += kWidth / kGemmPanel * panel_stride;
    c += columns;
    if (bias) bias += columns;
  }
}

constexpr std::size_t kAhead = 16;  // rows of a strided source that are asked for early

// Copies k rows of `columns` values into blocks of `width` columns: block b at out + b * stride, its rows
// `step` apart. Row by row, so that the source is read in the order of its addresses.
void copy_blocks(const float* source, std::size_t ld, std::size_t columns, std::size_t k, std::size_t width,
                 float* out, std::size_t stride) {
  for (std::size_t p = 0; p < k; ++p, source += ld) {
    std::size_t block = 0;
    for (std::size_t j = 0; j < columns; j += width, ++block) {
      const std::size_t take = columns - j < width ? columns - j : width;
      float* to = out + block * stride + p * take;
      _mm_prefetch(reinterpret_cast<const char*>(source + kAhead * ld + j), _MM_HINT_T0);
      std::size_t i = 0;
      for (; i + kLanes <= take; i += kLanes) v_store(to + i, v_load(source + j + i));
      if (i < take) {
        const Mask mask = v_first(take - i);
        v_store(to + i, v_load(source + j + i, mask), mask);
      }
    }
  }
}

// out[p * step + i] = source[i * ld + p] for i < rows, p < k.
void copy_transposed(const float* source, std::size_t ld, std::size_t rows, std::size_t k, float* out,
                     std::size_t step) {
  for (std::size_t p = transpose_rows(source, ld, rows, k, out, step); p < k; ++p)
    for (std::size_t i = 0; i < rows; ++i) out[p * step + i] = source[i * ld + p];
}

void pack_a(const float* a, std::size_t lda, bool transpose, std::size_t rows, std::size_t k,
            std::size_t height, float* packed) {
  if (transpose) {
    copy_blocks(a, lda, rows, k, height, packed, height * k);
    return;
  }
  for (std::size_t i = 0; i < rows; i += height) {
    const std::size_t take = rows - i < height ? rows - i : height;
    copy_transposed(a + i * lda, lda, take, k, packed + i * k, take);
  }
}

void pack_b(const float* b, std::size_t ldb, bool transpose, std::size_t k, std::size_t n, float* panels) {
  const std::size_t whole = n / kGemmPanel * kGemmPanel;
  if (!transpose) {
    constexpr std::size_t kColumns = 8 * kGemmPanel;  // written in so many streams at once
    for (std::size_t j = 0; j < whole; j += kColumns)
      copy_blocks(b + j, ldb, whole - j < kColumns ? whole - j : kColumns, k, kGemmPanel, panels + j * k,
                  kGemmPanel * k);
  } else {
    for (std::size_t j = 0; j < whole; j += kGemmPanel)
      copy_transposed(b + j * ldb, ldb, kGemmPanel, k, panels + j * k, kGemmPanel);
  }
  if (whole == n) return;
  float* last = panels + whole * k;
  for (std::size_t i = 0; i < k * kGemmPanel; ++i) last[i] = 0;
  if (transpose) {
    copy_transposed(b + whole * ldb, ldb, n - whole, k, last, kGemmPanel);
    return;
  }
  for (std::size_t p = 0; p < k; ++p)
    for (std::size_t i = 0; i < n - whole; ++i) last[p * kGemmPanel + i] = b[p * ldb + whole + i];
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
