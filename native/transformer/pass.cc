#include "native/transformer/pass.h"

#include <cmath>
#include <cstring>
#include <string>

#include "native/core/thread_pool.h"
#include "native/kernels/attention/attention.h"
#include "native/kernels/embedding/embedding.h"

namespace personascope {

namespace {

void copy_rows(const float* from, float* to, std::size_t values) {
  if (from != to) std::memcpy(to, from, values * sizeof(float));
}

}  // namespace

Pass::Pass(const Transformer& model, Workspace& workspace, const Batch& batch, std::size_t first,
           std::size_t last, const std::vector<Intervention>& interventions, const Capture* capture,
           bool keep)
    : model(model),
      workspace(workspace),
      batch(batch),
      first(first),
      last(last),
      interventions(interventions),
      capture(capture),
      keep(keep) {
  rows = batch.offsets[last] - batch.offsets[first];
  map.rows = rows;
  map.first_row = batch.offsets[first] - batch.offsets[0];
  std::int32_t* positions = workspace.positions.need(rows);
  std::uint32_t* sequence = workspace.sequence.need(rows);
  std::uint8_t* in_prompt = workspace.in_prompt.need(rows);
  std::size_t row = 0;
  for (std::size_t s = first; s < last; ++s) {
    const std::size_t prompt = batch.prompt_lengths ? batch.prompt_lengths[s] : batch.length(s);
    for (std::size_t t = 0; t < batch.length(s); ++t, ++row) {
      positions[row] = static_cast<std::int32_t>(t);
      sequence[row] = static_cast<std::uint32_t>(s);
      in_prompt[row] = t < prompt;
    }
  }
  map.position = positions;
  map.sequence = sequence;
  map.sequences = batch.sequences;
  map.in_prompt = in_prompt;
  reserve_states(model, workspace, keep ? model.config.layers : 1, rows, keep);
  workspace.output.need(rows * model.config.width);
}

void Pass::at_hook(Hook hook, float* x) const {
  const std::size_t d = model.config.width;
  if (moments) {
    for (auto& own : *moments) {
      if (own.hook.layer != hook.layer || own.hook.point != hook.point) continue;
      own.rows += rows;
      own.sum.resize(d);
      for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t i = 0; i < d; ++i) {
          const double value = x[row * d + i];
          own.sum[i] += value;
          own.squares += value * value;
        }
      }
    }
  }
  intervene(interventions, hook, map, d, x);
  if (!capture || capture->hook.layer != hook.layer || capture->hook.point != hook.point) return;
  std::size_t row = 0;
  for (std::size_t s = first; s < last; ++s) {
    float* out = capture->out + capture->first_output[s] * d;
    for (std::size_t t = 0; t < batch.length(s); ++t, ++row) {
      if (capture->mask && !capture->mask[map.first_row + row]) continue;
      std::memcpy(out, x + row * d, d * sizeof(float));
      out += d;
    }
  }
}

namespace {

void attend(const Pass& pass, const BlockState& state) {
  const auto& config = pass.model.config;
  const std::size_t start = pass.batch.offsets[pass.first];
  parallel_for(pass.last - pass.first, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::size_t s = pass.first + i, row = pass.batch.offsets[s] - start,
                        length = pass.batch.length(s);
      AttentionArgs args;
      args.shape.batch = 1;
      args.shape.heads = config.heads;
      args.shape.kv_heads = config.kv_heads;
      args.shape.head_dim = config.head_dim;
      args.shape.q_len = args.shape.k_len = length;
      args.shape.scale = 1.0f / std::sqrt(static_cast<float>(config.head_dim));
      args.q = state.qkv + row * config.qkv_width();
      args.k = args.q + config.query_width();
      args.v = args.k + config.kv_width();
      args.q_strides = args.k_strides = args.v_strides = {0, config.qkv_width(), config.head_dim};
      args.out = state.attended + row * config.query_width();
      args.out_strides = {0, config.query_width(), config.head_dim};
      args.lse = state.lse ? state.lse + row * config.heads : nullptr;
      attention_forward(args);
    }
  });
}

}  // namespace

float* Pass::forward(std::size_t height) {
  const auto& config = model.config;
  const std::size_t d = config.width;
  const std::size_t start = batch.offsets[first];
  EmbeddingArgs embedding;
  embedding.tokens = rows;
  embedding.width = d;
  embedding.ids = batch.tokens + start;
  embedding.table = model.parameter(model.layout.token_embedding);
  embedding.vocabulary = config.vocabulary;
  if (config.family == Family::gpt2) {
    embedding.positions = map.position;
    embedding.position_table = model.parameter(model.layout.position_embedding);
    embedding.max_positions = config.positions;
  }
  float* x = workspace.states[0].input;
  embedding.y = x;
  embedding_forward(embedding);
  at_hook({HookPoint::pre, 0}, x);
  if (height == 0) return x;
  for (std::size_t l = 0;; ++l) {
    BlockState& state = workspace.states[keep ? l : 0];
    project_qkv(model, l, state, rows, x, map.position);
    attend(*this, state);
    if (on_block) on_block(l, state);
    float* middle = keep ? state.middle : x;
    copy_rows(x, middle, rows * d);
    project_out(model, l, state, rows, middle);
    at_hook({HookPoint::mid, l}, middle);
    if (height == 2 * l + 1) return middle;
    const bool top = l + 1 == config.layers;
    float* out = !keep ? x : top ? workspace.output.data() : workspace.states[l + 1].input;
    feed_forward(model, l, state, rows, middle, out);
    x = out;
    at_hook({HookPoint::post, l}, x);
    if (!top) at_hook({HookPoint::pre, l + 1}, x);
    if (top || height == 2 * l + 2) return x;
  }
}

void for_parts(const Transformer& model, const Batch& batch, std::size_t part_rows,
               const std::function<void(std::size_t first, std::size_t last)>& body) {
  std::vector<std::size_t> starts;
  for (std::size_t s = 0; s < batch.sequences;) {
    starts.push_back(s);
    std::size_t taken = 0;
    do taken += batch.length(s++);
    while (s < batch.sequences && taken + batch.length(s) <= part_rows);
  }
  const std::size_t parts = starts.size();
  starts.push_back(batch.sequences);
  const auto run = [&](std::size_t begin, std::size_t end) {
    for (std::size_t part = begin; part < end; ++part) body(starts[part], starts[part + 1]);
  };
  if (model.small() && parts > 1)
    parallel_for(parts, 1, run);
  else
    run(0, parts);
}

void check_finite(const Pass& pass, const float* x, std::size_t width, const char* what) {
  std::size_t row = 0;
  for (std::size_t s = pass.first; s < pass.last; ++s)
    for (std::size_t t = 0; t < pass.batch.length(s); ++t, ++row)
      for (std::size_t i = 0; i < width; ++i)
        require(std::isfinite(x[row * width + i]), ErrorCode::non_finite,
                std::string(what) + ": value " + std::to_string(i) + " at token " + std::to_string(t) +
                    " of sequence " + std::to_string(s) + " is not finite");
}

}  // namespace personascope
