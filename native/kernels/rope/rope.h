// Rotary position embedding (Su et al. 2021) in the rotate-half convention of Llama in Hugging Face:
// dimension i of the first half is paired with i + rotary_dim/2.
//
//   (x1, x2) -> (x1 cos - x2 sin, x2 cos + x1 sin),  angle = position * inv_freq[i]
//
// The backward pass is the inverse rotation.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/core/isa.h"

namespace personascope {

// cos and sin of position * inv_freq[i], each [positions, half], computed in fp32 angles as torch does.
struct RopeTable {
  std::size_t positions = 0, half = 0;
  std::vector<float> cos, sin;
};
// inv_freq[i] = theta^(-2i / rotary_dim), the default of Llama; fp32.
std::vector<float> rope_inv_freq(double theta, std::size_t rotary_dim);
RopeTable rope_table(const std::vector<float>& inv_freq, std::size_t positions);

struct RopeArgs {
  std::size_t tokens = 0, heads = 0;
  std::size_t head_dim = 0;  // >= 2 * table->half; dimensions behind the rotary ones are left alone
  float* x = nullptr;        // token t, head h at x + t*token_stride + h*head_stride; in place
  std::size_t token_stride = 0, head_stride = 0;
  const std::int32_t* positions = nullptr;  // [tokens], each in [0, table->positions)
  const RopeTable* table = nullptr;
  bool inverse = false;
};
void rope(const RopeArgs& args);

// The variants work on tokens [begin, end); cos and sin are the table's.
using RopeFn = void (*)(const RopeArgs&, const float* cos, const float* sin, std::size_t begin,
                        std::size_t end);
const Variants<RopeFn>& rope_variants();

}  // namespace personascope
