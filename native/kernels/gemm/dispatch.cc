// The blocked driver around the ISA's tile kernel.
//
// B is packed once for all rows of C (in slabs where it is large), then tasks of (some rows) x (some columns)
// pack their rows of A for one block of k at a time and run tiles. How rows and columns are shared out
// depends on the number of threads; the arithmetic of an element does not (see gemm.h).
#include <algorithm>
#include <string>
#include <vector>

#include "native/kernels/gemm/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

namespace {

constexpr std::size_t kSlabFloats = std::size_t{1} << 18;  // packed B held at once: 1 MB
constexpr std::size_t kSlabColumns = 1024;                 // of it, where k has to be cut
constexpr std::size_t kRowsPerTask = 256;                  // of C; its block of A (x kGemmKBlock) stays in L2
constexpr std::size_t kSerialFlops = std::size_t{1}
                                     << 18;  // below, a thread's wake-up costs more than it saves

// Scratch of the calling thread, kept between calls.
float* scratch(AlignedBuffer<float>& buffer, std::size_t floats) {
  if (buffer.size() < floats) buffer = AlignedBuffer<float>(floats + floats / 4);
  return buffer.data();
}
thread_local AlignedBuffer<float> t_packed_a, t_packed_b;

std::size_t round_up(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}

void check(const GemmArgs& g) {
  const auto lead = [](const char* name, std::size_t found, std::size_t least) {
    if (found < least)
      fail(ErrorCode::invalid_argument, std::string("gemm: leading dimension of ") + name + ": found " +
                                            std::to_string(found) + ", expected at least " +
                                            std::to_string(least));
  };
  lead("A", g.lda, g.transpose_a ? g.m : g.k);
  if (g.packed_b) {
    if (g.packed_b->k() != g.k || g.packed_b->n() != g.n)
      fail(ErrorCode::invalid_argument, "gemm: packed B is " + std::to_string(g.packed_b->k()) + " x " +
                                            std::to_string(g.packed_b->n()) + ", expected " +
                                            std::to_string(g.k) + " x " + std::to_string(g.n));
  } else {
    lead("B", g.ldb, g.transpose_b ? g.k : g.n);
  }
  lead("C", g.ldc, g.n);
  if (g.activated) lead("activated", g.ldactivated, g.n);
}

// Packs columns [column, column + n) and rows [row, row + k) of op(B), several panels a task.
void pack(const GemmKernels& kernels, const float* b, std::size_t ldb, bool transpose, std::size_t row,
          std::size_t column, std::size_t k, std::size_t n, float* panels) {
  const std::size_t count = (n + kGemmPanel - 1) / kGemmPanel;
  parallel_rows(count, kGemmPanel * k, [&](std::size_t begin, std::size_t end) {
    const std::size_t first = column + begin * kGemmPanel;
    const std::size_t columns = std::min(end * kGemmPanel, n) - begin * kGemmPanel;
    const float* source = transpose ? b + first * ldb + row : b + row * ldb + first;
    kernels.pack_b(source, ldb, transpose, k, columns, panels + begin * kGemmPanel * k);
  });
}

struct Slab {
  const float* panels;  // of columns [column, ...), k rows from `row`, panel_stride apart
  std::size_t panel_stride;
  std::size_t row, column, k, n;
  bool first, last;  // block of k
};

// Rows [row_begin, row_end) x columns [begin, end) of the slab.
void run_task(const GemmArgs& g, const GemmKernels& kernels, const Slab& slab, std::size_t row_begin,
              std::size_t row_end, std::size_t begin, std::size_t end) {
  const std::size_t rows = row_end - row_begin;
  // Tiles of nearly equal height: 48 rows are 4 x 12, not 3 x 14 + 6.
  const std::size_t tiles = (rows + kernels.max_rows - 1) / kernels.max_rows;
  const std::size_t height = (rows + tiles - 1) / tiles;
  float* packed = scratch(t_packed_a, round_up(rows, 16) * kGemmKBlock);
  const std::size_t n = end - begin;
  float* c = g.c + row_begin * g.ldc + slab.column + begin;
  std::size_t p = 0;
  do {  // once even where k = 0: C still gets the bias
    const std::size_t depth = std::min(kGemmKBlock, slab.k - p);
    const bool start = slab.first && p == 0;
    const float* bias = start && g.bias ? g.bias + slab.column + begin : nullptr;
    const std::size_t row = row_begin, k = slab.row + p;
    kernels.pack_a(g.transpose_a ? g.a + k * g.lda + row : g.a + row * g.lda + k, g.lda, g.transpose_a, rows,
                   depth, height, packed);
    // A strip of B as wide as the tile stays in L1 while the rows of A pass by.
    const std::size_t step = tiles == 1 ? n : kernels.columns;
    for (std::size_t j = 0; j < n; j += step) {
      const float* panels = slab.panels + (begin + j) / kGemmPanel * slab.panel_stride + p * kGemmPanel;
      for (std::size_t i = 0; i < rows; i += height) {
        const std::size_t take = std::min(height, rows - i);
        kernels.tile(take, std::min(step, n - j), depth, packed + i * depth, take, panels, slab.panel_stride,
                     kGemmPanel, c + i * g.ldc + j, g.ldc, g.alpha, bias ? bias + j : nullptr,
                     !start || g.accumulate);
      }
    }
    p += kGemmKBlock;
  } while (p < slab.k);
  if (slab.last && (g.activation != Activation::none || g.activated)) {
    ActivationArgs act;
    act.kind = g.activation;
    act.rows = rows;
    act.width = n;
    act.x = c;
    act.x_stride = g.ldc;
    act.y = g.activated ? g.activated + row_begin * g.ldactivated + slab.column + begin : c;
    act.y_stride = g.activated ? g.ldactivated : g.ldc;
    activation_variants().active().forward(act, 0, rows);
  }
}

void run_slab(const GemmArgs& g, const GemmKernels& kernels, const Slab& slab) {
  const std::size_t threads = static_cast<std::size_t>(thread_count());
  const bool serial = threads == 1 || g.m * slab.n * slab.k * 2 < kSerialFlops;
  // Enough tasks for all threads (a few each, so that a late one costs little), rows first: columns are split
  // only where rows are few.
  const std::size_t wanted = serial ? 1 : 4 * threads;
  // Whole tiles a task, tasks of nearly equal size.
  const std::size_t tiles = (g.m + kernels.max_rows - 1) / kernels.max_rows;
  const std::size_t least = (g.m + kRowsPerTask - 1) / kRowsPerTask;
  const std::size_t row_tasks = std::min(tiles, std::max(least, wanted));
  const std::size_t rows_per_task = (g.m + row_tasks - 1) / row_tasks;
  std::size_t column_tasks =
      std::clamp<std::size_t>((wanted + row_tasks - 1) / row_tasks, 1, (slab.n + 31) / 32);
  const std::size_t columns_per_task = round_up((slab.n + column_tasks - 1) / column_tasks, 2 * kGemmPanel);
  column_tasks = (slab.n + columns_per_task - 1) / columns_per_task;
  const std::size_t tasks = row_tasks * column_tasks;
  parallel_for(tasks, serial ? tasks : 1, [&](std::size_t first, std::size_t last) {
    for (std::size_t task = first; task < last; ++task) {
      const std::size_t row = task / column_tasks * rows_per_task;
      const std::size_t column = task % column_tasks * columns_per_task;
      if (row >= g.m) continue;
      run_task(g, kernels, slab, row, std::min(row + rows_per_task, g.m), column,
               std::min(column + columns_per_task, slab.n));
    }
  });
}

}  // namespace

const Variants<GemmKernels>& gemm_variants() {
  static const Variants<GemmKernels> variants = {gemm_reference, gemm_avx2, gemm_avx512};
  return variants;
}

void PackedMatrix::pack(const float* b, std::size_t ldb, bool transpose, std::size_t k, std::size_t n) {
  if (ldb < (transpose ? k : n))
    fail(ErrorCode::invalid_argument, "packed matrix: leading dimension " + std::to_string(ldb) +
                                          ", expected at least " + std::to_string(transpose ? k : n));
  const std::size_t floats = round_up(n, kGemmPanel) * k;
  if (panels_.size() < floats) panels_ = AlignedBuffer<float>(floats);
  k_ = k;
  n_ = n;
  personascope::pack(gemm_variants().active(), b, ldb, transpose, 0, 0, k, n, panels_.data());
}

void gemm(const GemmArgs& g) {
  if (g.m == 0 || g.n == 0) return;
  check(g);
  const GemmKernels& kernels = gemm_variants().active();
  if (g.packed_b) {
    run_slab(g, kernels, {g.packed_b->data(), g.k * kGemmPanel, 0, 0, g.k, g.n, true, true});
    return;
  }
  // B in slabs that stay in the caches between packing and use: whole, or cut along k, and along n only
  // beyond kSlabColumns.
  std::size_t depth = std::max(g.k, std::size_t{1}), width = round_up(g.n, kGemmPanel);
  if (depth * width > kSlabFloats) {
    width = std::min(width, kSlabColumns);
    depth = std::min(depth, std::max(kSlabFloats / width / kGemmKBlock, std::size_t{1}) * kGemmKBlock);
  }
  float* panels = scratch(t_packed_b, width * depth);
  for (std::size_t column = 0; column < g.n; column += width) {
    std::size_t row = 0;
    do {
      const std::size_t k = std::min(depth, g.k - row), n = std::min(width, g.n - column);
      pack(kernels, g.b, g.ldb, g.transpose_b, row, column, k, n, panels);
      run_slab(g, kernels, {panels, k * kGemmPanel, row, column, k, n, row == 0, row + k == g.k});
      row += k;
    } while (row < g.k);
  }
}

void column_sums(std::size_t rows, std::size_t width, const float* x, std::size_t stride, float* sums,
                 bool accumulate) {
  const auto kernel = gemm_variants().active().column_sums;
  // Blocks of rows sum on their own, then the blocks are added in order.
  const std::size_t block = std::max<std::size_t>(64, (rows + 63) / 64);
  const std::size_t blocks = (rows + block - 1) / block;
  std::vector<float> partial(blocks * width);
  parallel_rows(blocks, block * width, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i)
      kernel(std::min(block, rows - i * block), width, x + i * block * stride, stride,
             partial.data() + i * width);
  });
  if (!accumulate) std::fill(sums, sums + width, 0.0f);
  kernel(blocks, width, partial.data(), width, sums);
}

}  // namespace personascope
