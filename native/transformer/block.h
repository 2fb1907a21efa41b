// The parts of one block that know of rows only: linear maps with their adapters, the projections around
// attention, the feed-forward half. Training, reading and sampling all go through them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/transformer/model.h"
#include "native/transformer/workspace.h"

namespace personascope {

// Memory for the states of `count` blocks of `rows` rows.
void reserve_states(const Transformer& model, Workspace& workspace, std::size_t count, std::size_t rows,
                    bool keep);

// y [rows, out] (+)= x W + bias + adapter; then the activation, see GemmArgs. low [rows, rank] receives x
// A^T.
struct LinearCall {
  std::size_t rows = 0;
  const float* x = nullptr;
  std::size_t x_stride = 0;
  float* y = nullptr;
  std::size_t y_stride = 0;
  bool accumulate = false;
  Activation activation = Activation::none;
  float* activated = nullptr;
  std::size_t activated_stride = 0;
  float* low = nullptr;
};
void apply_linear(const Transformer& model, const Linear& linear, const LinearCall& call);

// normed1, qkv (rotated) of a block from x [rows, d].
void project_qkv(const Transformer& model, std::size_t layer, BlockState& state, std::size_t rows,
                 const float* x, const std::int32_t* positions);
// x [rows, d] += attended through the output projection.
void project_out(const Transformer& model, std::size_t layer, BlockState& state, std::size_t rows, float* x);
// out [rows, d] = x + the feed-forward block of x; out may be x.
void feed_forward(const Transformer& model, std::size_t layer, BlockState& state, std::size_t rows,
                  const float* x, float* out);

}  // namespace personascope
