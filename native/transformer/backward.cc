#include "native/transformer/backward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "native/core/thread_pool.h"
#include "native/kernels/activation/activation.h"
#include "native/kernels/attention/attention.h"
#include "native/kernels/cross_entropy/cross_entropy.h"
#include "native/kernels/embedding/embedding.h"
#include "native/kernels/gemm/gemm.h"
#include "native/kernels/norm/norm.h"
#include "native/kernels/rope/rope.h"
#include "native/transformer/head.h"

namespace personascope {

namespace {

class Backward {
 public:
  Backward(Pass& pass, const BackwardTarget& target) : pass_(pass), target_(target), model_(pass.model) {}

  double run(const float* weights, float* losses) {
    const auto& config = model_.config;
    const std::size_t d = config.width, top = 2 * config.layers;
    const float* x = pass_.forward(top);
    stream_ = pass_.workspace.d_stream.need(pass_.rows * d);
    const double loss = head(x, weights, losses);
    for (std::size_t l = config.layers; l-- > 0;) {
      if (l + 1 < config.layers) leave({HookPoint::pre, l + 1});
      leave({HookPoint::post, l});
      if (!reaches(2 * l + 2)) return loss;
      feed_forward(l, below(2 * l + 2));
      if (!below(2 * l + 2)) return loss;
      leave({HookPoint::mid, l});
      if (!reaches(2 * l + 1)) return loss;
      attention(l, below(2 * l + 1));
      if (!below(2 * l + 1)) return loss;
    }
    leave({HookPoint::pre, 0});
    embedding(d);
    return loss;
  }

 private:
  std::size_t lowest_parameter() const { return target_.trainable ? target_.trainable->lowest : kNone; }
  // Whether anything wanted lies below the half-block that ends at `height`, or in it.
  bool below(std::size_t height) const {
    return (lowest_parameter() != kNone && lowest_parameter() < height) ||
           (target_.hook && target_.hook->hook.height() < height);
  }
  bool reaches(std::size_t height) const {
    return below(height) || (lowest_parameter() != kNone && lowest_parameter() == height);
  }

  // Hands out the gradient at a hook and goes back before its interventions.
  void leave(Hook hook) {
    const Capture* wanted = target_.hook;
    const std::size_t d = model_.config.width;
    if (wanted && wanted->hook.layer == hook.layer && wanted->hook.point == hook.point) {
      std::size_t row = 0;
      for (std::size_t s = pass_.first; s < pass_.last; ++s) {
        float* out = wanted->out + wanted->first_output[s] * d;
        for (std::size_t t = 0; t < pass_.batch.length(s); ++t, ++row) {
          if (wanted->mask && !wanted->mask[pass_.map.first_row + row]) continue;
          std::memcpy(out, stream_ + row * d, d * sizeof(float));
          out += d;
        }
      }
    }
    intervene_backward(pass_.interventions, hook, pass_.map, d, stream_);
  }

  float* gradient(std::size_t parameter) const {
    if (parameter == kNone || !target_.trainable) return nullptr;
    const std::size_t offset = target_.trainable->offset[parameter];
    return offset == kNone ? nullptr : target_.gradients + offset;
  }
  float* adapter_gradient(std::size_t parameter) const {
    if (!target_.trainable) return nullptr;
    const std::size_t offset = target_.trainable->adapter_offset[parameter];
    return offset == kNone ? nullptr : target_.gradients + offset;
  }

  // Gradients of a linear map from dy; dx (+)= dy W^T if wanted.
  void linear(const Linear& linear, const float* x, std::size_t x_stride, const float* dy,
              std::size_t dy_stride, const float* low, float* dx, bool accumulate) {
    const std::size_t rows = pass_.rows;
    if (float* dw = gradient(linear.weight)) {
      GemmArgs args;
      args.k = rows;
      args.transpose_a = true;
      args.accumulate = true;
      args.c = dw;
      if (linear.in_out) {  // [in, out] += x^T dy
        args.m = linear.in;
        args.n = args.ldc = linear.out;
        args.a = x;
        args.lda = x_stride;
        args.b = dy;
        args.ldb = dy_stride;
      } else {  // [out, in] += dy^T x
        args.m = linear.out;
        args.n = args.ldc = linear.in;
        args.a = dy;
        args.lda = dy_stride;
        args.b = x;
        args.ldb = x_stride;
      }
      gemm(args);
    }
    if (float* db = gradient(linear.bias)) column_sums(rows, linear.out, dy, dy_stride, db, true);
    if (dx) {
      GemmArgs args;
      args.m = rows;
      args.n = args.ldc = linear.in;
      args.k = linear.out;
      args.a = dy;
      args.lda = dy_stride;
      args.packed_b = model_.packed_backward(linear);
      args.b = model_.parameter(linear.weight);
      args.ldb = linear.in_out ? linear.out : linear.in;
      args.transpose_b = linear.in_out;
      args.c = dx;
      args.accumulate = accumulate;
      gemm(args);
    }
    const Adapter* adapter = model_.adapter(linear);
    if (!adapter) return;
    const auto& set = model_.adapters;
    const std::size_t rank = set.config.rank;
    if (float* db = adapter_gradient(adapter->b)) {  // [out, rank] += scale dy^T low
      GemmArgs args;
      args.m = linear.out;
      args.n = args.ldc = args.ldb = rank;
      args.k = rows;
      args.a = dy;
      args.lda = dy_stride;
      args.transpose_a = true;
      args.b = low;
      args.alpha = set.scale;
      args.accumulate = true;
      args.c = db;
      gemm(args);
    }
    float* d_low = pass_.workspace.d_low.need(rows * rank);
    GemmArgs up;  // d_low [rows, rank] = scale dy B
    up.m = rows;
    up.n = up.ldc = up.ldb = rank;
    up.k = linear.out;
    up.a = dy;
    up.lda = dy_stride;
    up.b = set.values.data() + set.parameters[adapter->b].offset;
    up.alpha = set.scale;
    up.c = d_low;
    gemm(up);
    if (float* da = adapter_gradient(adapter->a)) {  // [rank, in] += d_low^T x
      GemmArgs args;
      args.m = args.lda = rank;
      args.n = args.ldc = linear.in;
      args.k = rows;
      args.a = d_low;
      args.transpose_a = true;
      args.b = x;
      args.ldb = x_stride;
      args.accumulate = true;
      args.c = da;
      gemm(args);
    }
    if (dx) {
      GemmArgs args;  // dx += d_low A
      args.m = rows;
      args.n = args.ldc = args.ldb = linear.in;
      args.k = args.lda = rank;
      args.a = d_low;
      args.b = set.values.data() + set.parameters[adapter->a].offset;
      args.c = dx;
      args.accumulate = true;
      gemm(args);
    }
  }

  void norm(const float* x, std::size_t rows, std::size_t gamma, std::size_t beta, const float* mean,
            const float* rstd, const float* dy, float* dx, bool accumulate) {
    NormBackwardArgs args;
    args.kind = model_.config.family == Family::gpt2 ? Norm::layer : Norm::rms;
    args.rows = rows;
    args.width = model_.config.width;
    args.x = x;
    args.gamma = model_.parameter(gamma);
    args.mean = args.kind == Norm::layer ? mean : nullptr;
    args.rstd = rstd;
    args.dy = dy;
    args.dx = dx;
    args.accumulate_dx = accumulate;
    args.dgamma = gradient(gamma);
    args.dbeta = gradient(beta);
    norm_backward(args);
  }

  // The loss; its gradient with respect to the last residual stream goes to stream_.
  double head(const float* x, const float* weights, float* losses) {
    Workspace& workspace = pass_.workspace;
    const auto& config = model_.config;
    const std::size_t d = config.width, v = config.vocabulary, start = pass_.batch.offsets[pass_.first];
    std::uint32_t* selected = workspace.selected.need(pass_.rows);
    std::int32_t* targets = workspace.targets.need(pass_.rows);
    float* chosen_weights = workspace.weights.need(pass_.rows);
    std::size_t count = 0;
    for (std::size_t row = 0; row + 1 < pass_.rows; ++row) {
      const float weight = weights[pass_.map.first_row + row];
      if (pass_.map.sequence[row + 1] != pass_.map.sequence[row] || weight == 0) continue;
      selected[count] = static_cast<std::uint32_t>(row);
      targets[count] = pass_.batch.tokens[start + row + 1];
      chosen_weights[count++] = weight;
    }
    std::memset(stream_, 0, pass_.rows * d * sizeof(float));
    if (losses) std::memset(losses + pass_.map.first_row, 0, pass_.rows * sizeof(float));
    if (count == 0) return 0;
    final_norm(model_, workspace, x, selected, count);
    float* chosen_losses = workspace.losses.need(count);
    float* d_selected = workspace.d_selected.need(count * d);
    const std::size_t chunk = logit_chunk(model_);
    float* logits = workspace.logits.need(std::min(chunk, count) * v);
    const bool stream_wanted = reaches(2 * config.layers) ||
                               (target_.hook && target_.hook->hook.height() == 2 * config.layers) ||
                               gradient(model_.layout.final_norm) || gradient(model_.layout.final_norm_bias);
    for (std::size_t begin = 0; begin < count; begin += chunk) {
      const std::size_t rows = std::min(chunk, count - begin);
      const float* normed = workspace.normed.data() + begin * d;
      unembed(model_, normed, rows, logits);
      CrossEntropyArgs entropy;
      entropy.rows = rows;
      entropy.vocabulary = entropy.logits_stride = entropy.dlogits_stride = v;
      entropy.logits = entropy.dlogits = logits;
      entropy.targets = targets + begin;
      entropy.weights = chosen_weights + begin;
      entropy.losses = chosen_losses + begin;
      cross_entropy(entropy);
      if (float* du = gradient(model_.layout.unembedding)) {  // [vocabulary, d] += dlogits^T normed
        GemmArgs args;
        args.m = args.lda = v;
        args.n = args.ldb = args.ldc = d;
        args.k = rows;
        args.a = logits;
        args.transpose_a = true;
        args.b = normed;
        args.accumulate = true;
        args.c = du;
        gemm(args);
      }
      if (!stream_wanted) continue;
      GemmArgs args;  // dlogits [rows, vocabulary] unembedding [vocabulary, d]
      args.m = rows;
      args.n = args.ldb = args.ldc = d;
      args.k = args.lda = v;
      args.a = logits;
      args.packed_b = model_.packed_unembedding_backward();
      args.b = model_.parameter(model_.layout.unembedding);
      args.c = d_selected + begin * d;
      gemm(args);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t row = selected[i];
      require(std::isfinite(chosen_losses[i]), ErrorCode::non_finite,
              "loss of token " + std::to_string(pass_.map.position[row] + 1) + " of sequence " +
                  std::to_string(pass_.map.sequence[row]) + " is not finite");
      if (losses) losses[pass_.map.first_row + row] = chosen_losses[i];
    }
    const double loss = weighted_sum(count, chosen_losses, chosen_weights);
    if (!stream_wanted) return loss;
    norm(workspace.gathered.data(), count, model_.layout.final_norm, model_.layout.final_norm_bias,
         workspace.mean.data(), workspace.rstd.data(), d_selected, d_selected, false);
    for (std::size_t i = 0; i < count; ++i)
      std::memcpy(stream_ + static_cast<std::size_t>(selected[i]) * d, d_selected + i * d, d * sizeof(float));
    return loss;
  }

  void feed_forward(std::size_t layer, bool propagate) {
    const auto& config = model_.config;
    const auto& block = model_.layout.blocks[layer];
    const BlockState& state = pass_.workspace.states[layer];
    const std::size_t rows = pass_.rows, d = config.width, hidden = config.hidden, ups = block.up.size();
    const std::size_t low = block.qkv.size() + 1;
    // wide: gradient of the activation's output, then behind it that of its inputs.
    float* d_hidden = pass_.workspace.d_wide.need(rows * (ups == 1 ? 1 : 3) * hidden);
    float* d_activated = ups == 1 ? d_hidden : d_hidden + rows * 2 * hidden;
    linear(block.down, state.activated, hidden, stream_, d, low_of(state, low + ups), d_activated, false);
    if (ups == 1) {
      ActivationBackwardArgs args;
      args.kind = config.activation;
      args.rows = rows;
      args.width = args.x_stride = args.dy_stride = args.dx_stride = hidden;
      args.x = state.hidden;
      args.dy = d_activated;
      args.dx = d_hidden;
      activation_backward(args);
    } else {
      GatedBackwardArgs args;
      args.kind = config.activation;
      args.rows = rows;
      args.width = args.dy_stride = hidden;
      args.gate = state.hidden;
      args.up = state.hidden + hidden;
      args.gate_stride = args.up_stride = args.dgate_stride = args.dup_stride = 2 * hidden;
      args.dy = d_activated;
      args.dgate = d_hidden;
      args.dup = d_hidden + hidden;
      gated_backward(args);
    }
    const bool through = propagate || gradient(block.norm2) || gradient(block.norm2_bias);
    float* d_normed = through ? pass_.workspace.d_normed.need(rows * d) : nullptr;
    for (std::size_t i = 0; i < ups; ++i)
      linear(block.up[i], state.normed2, d, d_hidden + block.up[i].column, ups * hidden,
             low_of(state, low + i), d_normed, i > 0);
    if (through)
      norm(state.middle, rows, block.norm2, block.norm2_bias, state.mean2, state.rstd2, d_normed, stream_,
           true);
  }

  void attention(std::size_t layer, bool propagate) {
    const auto& config = model_.config;
    const auto& block = model_.layout.blocks[layer];
    const BlockState& state = pass_.workspace.states[layer];
    const std::size_t rows = pass_.rows, d = config.width, q = config.query_width(),
                      wide = config.qkv_width();
    float* d_attended = pass_.workspace.d_attended.need(rows * q);
    linear(block.out, state.attended, q, stream_, d, low_of(state, block.qkv.size()), d_attended, false);
    float* d_qkv = pass_.workspace.d_wide.need(rows * wide);
    const std::size_t start = pass_.batch.offsets[pass_.first];
    parallel_for(pass_.last - pass_.first, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        const std::size_t s = pass_.first + i, row = pass_.batch.offsets[s] - start;
        AttentionBackwardArgs args;
        args.shape.batch = 1;
        args.shape.heads = config.heads;
        args.shape.kv_heads = config.kv_heads;
        args.shape.head_dim = config.head_dim;
        args.shape.q_len = args.shape.k_len = pass_.batch.length(s);
        args.shape.scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
        args.q = state.qkv + row * wide;
        args.k = args.q + q;
        args.v = args.k + config.kv_width();
        args.out = state.attended + row * q;
        args.lse = state.lse + row * config.heads;
        args.dout = d_attended + row * q;
        args.dq = d_qkv + row * wide;
        args.dk = args.dq + q;
        args.dv = args.dk + config.kv_width();
        args.q_strides = args.k_strides = args.v_strides = {0, wide, config.head_dim};
        args.dq_strides = args.dk_strides = args.dv_strides = {0, wide, config.head_dim};
        args.out_strides = args.dout_strides = {0, q, config.head_dim};
        attention_backward(args);
      }
    });
    if (config.family == Family::llama) {
      RopeArgs args;
      args.tokens = rows;
      args.heads = config.heads + config.kv_heads;
      args.head_dim = config.head_dim;
      args.x = d_qkv;
      args.token_stride = wide;
      args.head_stride = config.head_dim;
      args.positions = pass_.map.position;
      args.table = &model_.rope;
      args.inverse = true;
      rope(args);
    }
    const bool through = propagate || gradient(block.norm1) || gradient(block.norm1_bias);
    float* d_normed = through ? pass_.workspace.d_normed.need(rows * d) : nullptr;
    for (std::size_t i = 0; i < block.qkv.size(); ++i)
      linear(block.qkv[i], state.normed1, d, d_qkv + block.qkv[i].column, wide, low_of(state, i), d_normed,
             i > 0);
    if (through)
      norm(state.input, rows, block.norm1, block.norm1_bias, state.mean1, state.rstd1, d_normed, stream_,
           true);
  }

  void embedding(std::size_t d) {
    EmbeddingBackwardArgs args;
    args.tokens = pass_.rows;
    args.width = d;
    args.dy = stream_;
    if (float* table = gradient(model_.layout.token_embedding)) {
      args.ids = pass_.batch.tokens + pass_.batch.offsets[pass_.first];
      args.rows = model_.config.vocabulary;
      args.dtable = table;
      embedding_backward(args);
    }
    if (float* table = gradient(model_.layout.position_embedding)) {
      args.ids = pass_.map.position;
      args.rows = model_.config.positions;
      args.dtable = table;
      embedding_backward(args);
    }
  }

  static const float* low_of(const BlockState& state, std::size_t index) {
    return state.low.empty() ? nullptr : state.low[index];
  }

  Pass& pass_;
  const BackwardTarget& target_;
  const Transformer& model_;
  float* stream_ = nullptr;  // [rows, d], gradient of the residual stream where the pass stands
};

}  // namespace

double forward_backward(Pass& pass, const float* weights, const BackwardTarget& target, float* losses) {
  return Backward(pass, target).run(weights, losses);
}

}  // namespace personascope
