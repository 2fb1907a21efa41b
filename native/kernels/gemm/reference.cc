// Plain matrix product on the packed layouts of gemm.h.
#include "native/kernels/gemm/variants.h"

namespace personascope {

namespace {

void pack_b(const float* b, std::size_t ldb, bool transpose, std::size_t k, std::size_t n, float* panels) {
  for (std::size_t j0 = 0; j0 < n; j0 += kGemmPanel)
    for (std::size_t p = 0; p < k; ++p)
      for (std::size_t j = j0; j < j0 + kGemmPanel; ++j)
        *panels++ = j >= n ? 0.0f : transpose ? b[j * ldb + p] : b[p * ldb + j];
}

void pack_a(const float* a, std::size_t lda, bool transpose, std::size_t rows, std::size_t k,
            std::size_t height, float* packed) {
  for (std::size_t i0 = 0; i0 < rows; i0 += height)
    for (std::size_t p = 0; p < k; ++p)
      for (std::size_t i = i0; i < rows && i < i0 + height; ++i)
        *packed++ = transpose ? a[p * lda + i] : a[i * lda + p];
}

void tile(std::size_t rows, std::size_t n, std::size_t k, const float* a, std::size_t a_step,
          const float* panels, std::size_t panel_stride, std::size_t panel_step, float* c, std::size_t ldc,
          float alpha, const float* bias, bool accumulate) {
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      const float* b = panels + j / kGemmPanel * panel_stride + j % kGemmPanel;
      float sum = 0;
      for (std::size_t p = 0; p < k; ++p) sum += a[p * a_step + i] * b[p * panel_step];
      float start = bias ? bias[j] : 0.0f;
      if (accumulate) start += c[i * ldc + j];
      c[i * ldc + j] = alpha * sum + start;
    }
}

void block_column_sums(std::size_t rows, std::size_t width, const float* x, std::size_t stride, float* sums) {
  for (std::size_t r = 0; r < rows; ++r)
    for (std::size_t j = 0; j < width; ++j) sums[j] += x[r * stride + j];
}

}  // namespace

const GemmKernels gemm_reference = {8, 16, pack_b, pack_a, tile, block_column_sums};

}  // namespace personascope
