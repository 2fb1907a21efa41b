// Normalisation of inputs before encoding, and its inverse after decoding.
#pragma once
#include <cstddef>
#include <cstdint>

namespace personascope {

// constant_norm_rescale: x sqrt(d) / |x|.  layer_norm: (x - mean) / (sd + 1e-5), sd unbiased (d - 1).
enum class InputNorm : int { none = 0, constant_norm_rescale = 1, layer_norm = 2 };

struct InputTransform {
  std::size_t width = 0;
  InputNorm norm = InputNorm::none;
  const float* mean = nullptr;   // [width], with `scale`, or null: x becomes (x - mean) / scale before `norm`
  const float* scale = nullptr;  // [width]

  bool any() const { return norm != InputNorm::none || scale; }
  // out [tokens, width] from x [tokens, stride]; means and scales [tokens] receive what undo() needs (0 and 1
  // without a norm). Sums in fp64. Throws non_finite for NaN and Inf, and invalid_argument for a token that
  // has no such norm: length 0, or all values equal. Tokens are counted from first_token in messages.
  void apply(const float* x, std::size_t tokens, std::size_t stride, std::size_t first_token, float* out,
             float* means, float* scales) const;
  // The inverse, in place: values [tokens, width].
  void undo(float* values, std::size_t tokens, const float* means, const float* scales) const;
};

}  // namespace personascope
