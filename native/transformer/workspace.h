// Scratch memory of a pass: grown when a larger pass comes, else reused, so that steady training and sampling
// allocate nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/core/aligned.h"

namespace personascope {

// At least `size` values; what was in it is lost when it grows.
template <class T>
class Scratch {
 public:
  T* need(std::size_t size) {
    if (size > buffer_.size()) buffer_ = AlignedBuffer<T>(size + size / 8);
    return buffer_.data();
  }
  T* data() { return buffer_.data(); }
  const T* data() const { return buffer_.data(); }

 private:
  AlignedBuffer<T> buffer_;
};

// What a block computed, as its backward pass needs it. n = rows of the pass.
struct BlockState {
  float* input = nullptr;      // [n, d] residual stream before the block, interventions done
  float* middle = nullptr;     // [n, d] between attention and feed-forward
  float* normed1 = nullptr;    // [n, d]
  float* normed2 = nullptr;    // [n, d]
  float* qkv = nullptr;        // [n, qkv_width], rotated
  float* attended = nullptr;   // [n, query_width]
  float* hidden = nullptr;     // [n, hidden or 2 hidden] before the activation
  float* activated = nullptr;  // [n, hidden]
  float* lse = nullptr;        // [n, heads], sequence by sequence [heads, length]
  float *mean1 = nullptr, *rstd1 = nullptr, *mean2 = nullptr, *rstd2 = nullptr;  // [n]
  std::vector<float*> low;  // [n, rank] x A^T, by linear map of the block: qkv..., out, up..., down
};

struct Workspace {
  Scratch<float> blocks;  // the states of all blocks, or of one that they share
  std::vector<BlockState> states;
  Scratch<float> output;  // [n, d] residual stream after the last block
  Scratch<std::int32_t> positions;
  Scratch<std::uint32_t> sequence;
  Scratch<std::uint8_t> in_prompt;
  // Rows that go through the unembedding, R of them.
  Scratch<std::uint32_t> selected;  // [R]
  Scratch<float> gathered, normed;  // [R, d]
  Scratch<float> mean, rstd;        // [R]
  Scratch<float> logits;            // [chunk, vocabulary]
  Scratch<std::int32_t> targets;    // [R]
  Scratch<float> weights, losses;   // [R]
  // Sampling.
  Scratch<float> cache;       // [layers, keys of all slots then values of all slots]
  Scratch<float> row_logits;  // [rows decoded, vocabulary]
  // Gradients.
  Scratch<float> d_stream, d_normed, d_wide, d_attended, d_selected, d_low;
};

}  // namespace personascope
