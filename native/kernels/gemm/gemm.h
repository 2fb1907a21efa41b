// Dense fp32 matrix product:  C = act(alpha * op(A) op(B) + bias + (accumulate ? C : 0)).
//
// Row-major with leading dimensions (elements between rows). op(A) is [m, k], op(B) is [k, n], C is [m, n].
// Weights are [out, in] as in torch's Linear, so a layer is y = x W^T: transpose_b = true, n = out, k = in.
//
// Every element of C is one chain of multiply-adds over k = 0, 1, 2, ... in blocks of kGemmKBlock, the blocks
// added in order to bias + C. It depends neither on the number of threads nor on m, n or the element's place:
// a row has the same bits alone (decoding) and in a batch (training).
#pragma once
#include <cstddef>

#include "native/core/aligned.h"
#include "native/core/isa.h"
#include "native/kernels/activation/activation.h"

namespace personascope {

constexpr std::size_t kGemmKBlock = 256;
constexpr std::size_t kGemmPanel = 16;

// op(B) [k, n] stored once in the order in which the kernels read it, for weights used by many calls
// (sampling with a KV cache). The layout is the same for every ISA: panels of 16 columns, each [k][16], the
// last padded with zeros. Packing again (after the weights changed) reuses the memory.
class PackedMatrix {
 public:
  PackedMatrix() = default;
  // b: [k, n] with leading dimension ldb, or [n, k] if `transpose`.
  PackedMatrix(const float* b, std::size_t ldb, bool transpose, std::size_t k, std::size_t n) {
    pack(b, ldb, transpose, k, n);
  }
  void pack(const float* b, std::size_t ldb, bool transpose, std::size_t k, std::size_t n);
  const float* data() const { return panels_.data(); }
  std::size_t k() const { return k_; }
  std::size_t n() const { return n_; }
  bool empty() const { return n_ == 0; }

 private:
  AlignedBuffer<float> panels_;  // [ceil(n / 16)][k][16]
  std::size_t k_ = 0, n_ = 0;
};

struct GemmArgs {
  std::size_t m = 0, n = 0, k = 0;
  const float* a = nullptr;  // [m, k], or [k, m] if transpose_a
  std::size_t lda = 0;
  bool transpose_a = false;
  const float* b = nullptr;  // [k, n], or [n, k] if transpose_b; unused with packed_b
  std::size_t ldb = 0;
  bool transpose_b = false;
  const PackedMatrix* packed_b = nullptr;  // op(B), k x n
  float* c = nullptr;                      // [m, n]; overlaps no input
  std::size_t ldc = 0;
  float alpha = 1.0f;
  const float* bias = nullptr;  // [n] or null
  bool accumulate = false;
  // Epilogue. Where `activated` is given, C keeps the value before the activation (training needs it) and
  // activated [m, n] receives act(C); otherwise act is applied in place.
  Activation activation = Activation::none;
  float* activated = nullptr;
  std::size_t ldactivated = 0;
};
void gemm(const GemmArgs& args);

// sums[j] = sum over rows of x[row, j] (+ sums[j] if accumulate): the gradient of a bias. Rows are added in
// fixed blocks, so the result is the same for any number of threads.
void column_sums(std::size_t rows, std::size_t width, const float* x, std::size_t stride, float* sums,
                 bool accumulate);

// What an ISA provides; all on one thread.
struct GemmKernels {
  // Largest number of rows of C that `tile` takes, and the columns it then holds in registers.
  std::size_t max_rows, columns;
  // panels [ceil(n / 16)][k][16] from op(B) rows [0, k), columns [0, n).
  void (*pack_b)(const float* b, std::size_t ldb, bool transpose, std::size_t k, std::size_t n,
                 float* panels);
  // Packs rows [0, rows) and columns [0, k) of op(A) in tiles of `height` rows (the last may have fewer):
  // the tile that begins at row i lies at packed + i * k as [k][its rows].
  void (*pack_a)(const float* a, std::size_t lda, bool transpose, std::size_t rows, std::size_t k,
                 std::size_t height, float* packed);
  // c[rows, n] = alpha * A B + start, where start is bias (null: 0), plus c if accumulate. Value (i, p) of A
  // is at a[p * a_step + i] (a_step = rows where packed). Sixteen columns of B are a panel: panels +
  // panel_stride * (column / 16), its k rows panel_step apart (16 where packed; a matrix of whole panels may
  // be read in place).
  void (*tile)(std::size_t rows, std::size_t n, std::size_t k, const float* a, std::size_t a_step,
               const float* panels, std::size_t panel_stride, std::size_t panel_step, float* c,
               std::size_t ldc, float alpha, const float* bias, bool accumulate);
  // sums[j] += sum over rows
  void (*column_sums)(std::size_t rows, std::size_t width, const float* x, std::size_t stride, float* sums);
};
const Variants<GemmKernels>& gemm_variants();

}  // namespace personascope
