#include "native/kernels/embedding/variants.h"

namespace personascope {

namespace {

void forward(const EmbeddingArgs& a, std::size_t begin, std::size_t end) {
  const std::size_t n = a.width;
  for (std::size_t t = begin; t < end; ++t) {
    const float* token = a.table + static_cast<std::size_t>(a.ids[t]) * n;
    const float* position =
        a.position_table ? a.position_table + static_cast<std::size_t>(a.positions[t]) * n : nullptr;
    for (std::size_t i = 0; i < n; ++i) a.y[t * n + i] = position ? token[i] + position[i] : token[i];
  }
}

void add(float* row, const float* dy, std::size_t width) {
  for (std::size_t i = 0; i < width; ++i) row[i] += dy[i];
}

}  // namespace

const EmbeddingKernels embedding_reference = {forward, add};

}  // namespace personascope
