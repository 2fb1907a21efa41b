#include "native/transformer/block.h"

#include <cstring>
#include <utility>
#include <vector>

#include "native/kernels/activation/activation.h"
#include "native/kernels/gemm/gemm.h"
#include "native/kernels/norm/norm.h"
#include "native/kernels/rope/rope.h"

namespace personascope {

namespace {

std::size_t padded(std::size_t size) {
  return (size + 15) / 16 * 16;
}

}  // namespace

void reserve_states(const Transformer& model, Workspace& workspace, std::size_t count, std::size_t rows,
                    bool keep) {
  const auto& config = model.config;
  const std::size_t d = config.width, up = model.layout.blocks[0].up.size();
  // ReLU's derivative is known from its output, and nobody asks for anything else when nothing is kept.
  const bool in_place = up == 1 && (!keep || config.activation == Activation::relu);
  std::vector<std::pair<float* BlockState::*, std::size_t>> parts = {
      {&BlockState::input, rows * d},
      {&BlockState::normed1, rows * d},
      {&BlockState::normed2, rows * d},
      {&BlockState::qkv, rows * config.qkv_width()},
      {&BlockState::attended, rows * config.query_width()},
      {&BlockState::activated, rows * config.hidden},
  };
  if (!in_place) parts.push_back({&BlockState::hidden, rows * up * config.hidden});
  if (keep) {
    parts.push_back({&BlockState::middle, rows * d});
    parts.push_back({&BlockState::lse, rows * config.heads});
    for (auto member : {&BlockState::mean1, &BlockState::rstd1, &BlockState::mean2, &BlockState::rstd2})
      parts.push_back({member, rows});
  }
  const std::size_t rank = model.adapters.empty() ? 0 : model.adapters.config.rank;
  std::size_t each = 0;
  for (const auto& part : parts) each += padded(part.second);
  std::size_t low_count = 0;
  if (rank) {
    low_count = model.layout.blocks[0].qkv.size() + up + 2;
    each += low_count * padded(rows * rank);
  }
  float* next = workspace.blocks.need(each * count);
  workspace.states.resize(count);
  for (auto& state : workspace.states) {
    state.mean1 = state.rstd1 = state.mean2 = state.rstd2 = state.lse = nullptr;
    for (const auto& part : parts) {
      state.*part.first = next;
      next += padded(part.second);
    }
    if (in_place) state.hidden = state.activated;
    if (!keep) state.middle = state.input;
    state.low.assign(low_count, nullptr);
    for (float*& low : state.low) {
      low = next;
      next += padded(rows * rank);
    }
  }
}

void apply_linear(const Transformer& model, const Linear& linear, const LinearCall& call) {
  GemmArgs args;
  args.m = call.rows;
  args.n = linear.out;
  args.k = linear.in;
  args.a = call.x;
  args.lda = call.x_stride;
  args.packed_b = model.packed_forward(linear);
  args.b = model.parameter(linear.weight);
  args.ldb = linear.in_out ? linear.out : linear.in;
  args.transpose_b = !linear.in_out;
  args.c = call.y;
  args.ldc = call.y_stride;
  args.bias = model.optional(linear.bias);
  args.accumulate = call.accumulate;
  const Adapter* adapter = model.adapter(linear);
  if (!adapter) {
    args.activation = call.activation;
    args.activated = call.activated;
    args.ldactivated = call.activated_stride;
    gemm(args);
    return;
  }
  gemm(args);
  const std::size_t rank = model.adapters.config.rank;
  GemmArgs down;  // low [rows, rank] = x A^T
  down.m = call.rows;
  down.n = rank;
  down.k = linear.in;
  down.a = call.x;
  down.lda = call.x_stride;
  down.b = model.adapters.values.data() + model.adapters.parameters[adapter->a].offset;
  down.ldb = linear.in;
  down.transpose_b = true;
  down.c = call.low;
  down.ldc = rank;
  gemm(down);
  GemmArgs up;  // y += scale low B^T
  up.m = call.rows;
  up.n = linear.out;
  up.k = rank;
  up.a = call.low;
  up.lda = rank;
  up.b = model.adapters.values.data() + model.adapters.parameters[adapter->b].offset;
  up.ldb = rank;
  up.transpose_b = true;
  up.c = call.y;
  up.ldc = call.y_stride;
  up.alpha = model.adapters.scale;
  up.accumulate = true;
  up.activation = call.activation;
  up.activated = call.activated;
  up.ldactivated = call.activated_stride;
  gemm(up);
}

namespace {

float* low_of(const BlockState& state, std::size_t index) {
  return state.low.empty() ? nullptr : state.low[index];
}

Norm norm_kind(const Transformer& model) {
  return model.config.family == Family::gpt2 ? Norm::layer : Norm::rms;
}

// y [rows, d] = norm of x [rows, d] by the parameters gamma and beta (may be none); keeps mean and rstd
// [rows].
void normalise(const Transformer& model, std::size_t gamma, std::size_t beta, std::size_t rows,
               const float* x, float* y, float* mean, float* rstd) {
  NormArgs norm;
  norm.kind = norm_kind(model);
  norm.rows = rows;
  norm.width = model.config.width;
  norm.eps = model.config.norm_eps;
  norm.x = x;
  norm.gamma = model.parameter(gamma);
  norm.beta = model.optional(beta);
  norm.y = y;
  norm.mean = norm.kind == Norm::layer ? mean : nullptr;
  norm.rstd = rstd;
  norm_forward(norm);
}

}  // namespace

void project_qkv(const Transformer& model, std::size_t layer, BlockState& state, std::size_t rows,
                 const float* x, const std::int32_t* positions) {
  const auto& config = model.config;
  const auto& block = model.layout.blocks[layer];
  normalise(model, block.norm1, block.norm1_bias, rows, x, state.normed1, state.mean1, state.rstd1);
  for (std::size_t i = 0; i < block.qkv.size(); ++i) {
    LinearCall call;
    call.rows = rows;
    call.x = state.normed1;
    call.x_stride = config.width;
    call.y = state.qkv + block.qkv[i].column;
    call.y_stride = config.qkv_width();
    call.low = low_of(state, i);
    apply_linear(model, block.qkv[i], call);
  }
  if (config.family == Family::llama) {
    RopeArgs args;
    args.tokens = rows;
    args.heads = config.heads + config.kv_heads;  // queries and keys lie side by side
    args.head_dim = config.head_dim;
    args.x = state.qkv;
    args.token_stride = config.qkv_width();
    args.head_stride = config.head_dim;
    args.positions = positions;
    args.table = &model.rope;
    personascope::rope(args);
  }
}

void project_out(const Transformer& model, std::size_t layer, BlockState& state, std::size_t rows, float* x) {
  const auto& block = model.layout.blocks[layer];
  LinearCall call;
  call.rows = rows;
  call.x = state.attended;
  call.x_stride = model.config.query_width();
  call.y = x;
  call.y_stride = model.config.width;
  call.accumulate = true;
  call.low = low_of(state, block.qkv.size());
  apply_linear(model, block.out, call);
}

void feed_forward(const Transformer& model, std::size_t layer, BlockState& state, std::size_t rows,
                  const float* x, float* out) {
  const auto& config = model.config;
  const auto& block = model.layout.blocks[layer];
  normalise(model, block.norm2, block.norm2_bias, rows, x, state.normed2, state.mean2, state.rstd2);
  const std::size_t ups = block.up.size(), first_low = block.qkv.size() + 1;
  for (std::size_t i = 0; i < ups; ++i) {
    LinearCall call;
    call.rows = rows;
    call.x = state.normed2;
    call.x_stride = config.width;
    call.y = state.hidden + block.up[i].column;
    call.y_stride = ups * config.hidden;
    call.low = low_of(state, first_low + i);
    if (ups == 1) {
      call.activation = config.activation;
      if (state.activated != state.hidden) {
        call.activated = state.activated;
        call.activated_stride = config.hidden;
      }
    }
    apply_linear(model, block.up[i], call);
  }
  if (ups == 2) {
    GatedArgs gated;
    gated.kind = config.activation;
    gated.rows = rows;
    gated.width = config.hidden;
    gated.gate = state.hidden;
    gated.up = state.hidden + config.hidden;
    gated.gate_stride = gated.up_stride = 2 * config.hidden;
    gated.y = state.activated;
    gated.y_stride = config.hidden;
    gated_forward(gated);
  }
  if (x != out) std::memcpy(out, x, rows * config.width * sizeof(float));
  LinearCall call;
  call.rows = rows;
  call.x = state.activated;
  call.x_stride = config.hidden;
  call.y = out;
  call.y_stride = config.width;
  call.accumulate = true;
  call.low = low_of(state, first_low + ups);
  apply_linear(model, block.down, call);
}

}  // namespace personascope
