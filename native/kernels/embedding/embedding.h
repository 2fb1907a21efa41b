// Token (and learned position) embedding: y[t] = table[ids[t]] + positions_table[positions[t]], and its
// gradient.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"

namespace personascope {

struct EmbeddingArgs {
  std::size_t tokens = 0, width = 0;
  const std::int32_t* ids = nullptr;  // [tokens], each in [0, vocabulary), else invalid_argument
  const float* table = nullptr;       // [vocabulary, width]
  std::size_t vocabulary = 0;
  const std::int32_t* positions =
      nullptr;                            // [tokens], each in [0, max_positions); null without position_table
  const float* position_table = nullptr;  // [max_positions, width] or null
  std::size_t max_positions = 0;
  float* y = nullptr;  // [tokens, width]
};
void embedding_forward(const EmbeddingArgs& args);

struct EmbeddingBackwardArgs {
  std::size_t tokens = 0, width = 0;
  const std::int32_t* ids = nullptr;  // [tokens]; a negative id has no gradient
  std::size_t rows = 0;               // of dtable
  const float* dy = nullptr;          // [tokens, width]
  float* dtable = nullptr;  // [rows, width], dtable[ids[t]] += dy[t]; tokens of one row in order of t
};
// Once for the token table and once (with the positions as ids) for the position table.
void embedding_backward(const EmbeddingBackwardArgs& args);

// The variants: forward on tokens [begin, end); add: row[i] += dy[i] for i < width.
struct EmbeddingKernels {
  void (*forward)(const EmbeddingArgs&, std::size_t begin, std::size_t end);
  void (*add)(float* row, const float* dy, std::size_t width);
};
const Variants<EmbeddingKernels>& embedding_variants();

}  // namespace personascope
