#include "native/transformer/inference.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/kernels/cross_entropy/cross_entropy.h"
#include "native/transformer/head.h"
#include "native/transformer/pass.h"

namespace personascope {

namespace {

// Rows a part of a batch has: enough to fill the matrix kernels, few enough to stay in a core's cache.
constexpr std::size_t kPartRows = 512;

void next_token_log_probs(const Pass& pass, const float* x, float* out) {
  Workspace& workspace = pass.workspace;
  const Transformer& model = pass.model;
  const std::size_t d = model.config.width, start = pass.batch.offsets[pass.first];
  std::uint32_t* selected = workspace.selected.need(pass.rows);
  std::int32_t* targets = workspace.targets.need(pass.rows);
  std::size_t count = 0;
  for (std::size_t row = 0; row < pass.rows; ++row) {
    out[row] = 0;
    if (row + 1 == pass.rows || pass.map.sequence[row + 1] != pass.map.sequence[row]) continue;
    selected[count] = static_cast<std::uint32_t>(row);
    targets[count++] = pass.batch.tokens[start + row + 1];
  }
  if (count == 0) return;
  final_norm(model, workspace, x, selected, count);
  const std::size_t chunk = logit_chunk(model);
  float* logits = workspace.logits.need(std::min(chunk, count) * model.config.vocabulary);
  float* losses = workspace.losses.need(count);
  for (std::size_t begin = 0; begin < count; begin += chunk) {
    const std::size_t rows = std::min(chunk, count - begin);
    unembed(model, workspace.normed.data() + begin * d, rows, logits);
    CrossEntropyArgs args;
    args.rows = rows;
    args.vocabulary = args.logits_stride = model.config.vocabulary;
    args.logits = logits;
    args.targets = targets + begin;
    args.losses = losses + begin;
    cross_entropy(args);
  }
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t row = selected[i];
    require(std::isfinite(losses[i]), ErrorCode::non_finite,
            "log-probability of token " + std::to_string(pass.map.position[row] + 1) + " of sequence " +
                std::to_string(pass.map.sequence[row]) + " is not finite");
    out[row] = -losses[i];
  }
}

}  // namespace

std::vector<std::size_t> output_offsets(const Batch& batch, const std::uint8_t* mask) {
  std::vector<std::size_t> offsets(batch.sequences + 1, 0);
  std::size_t row = 0;
  for (std::size_t s = 0; s < batch.sequences; ++s) {
    offsets[s + 1] = offsets[s];
    for (std::size_t t = 0; t < batch.length(s); ++t, ++row) offsets[s + 1] += !mask || mask[row];
  }
  return offsets;
}

ForwardResult forward(const Transformer& model, const ForwardRequest& request) {
  const auto& config = model.config;
  const Batch& batch = request.batch;
  std::shared_lock guard(model.lock);
  check_batch(batch, config);
  check_interventions(request.interventions, config, batch.sequences);
  require(!request.capture || request.hook.layer < config.layers, ErrorCode::invalid_argument,
          "capture: layer " + std::to_string(request.hook.layer) + ", the model has " +
              std::to_string(config.layers) + " layers");
  model.prepare(false);
  const std::size_t d = config.width;
  ForwardResult result;
  std::vector<std::size_t> first_output;
  if (request.capture) {
    first_output = output_offsets(batch, request.mask);
    result.captured_rows = first_output.back();
    result.captured = AlignedBuffer<float>(result.captured_rows * d);
  }
  if (request.log_probs) result.log_probs = AlignedBuffer<float>(batch.rows());
  if (request.last_logits) result.last_logits = AlignedBuffer<float>(batch.sequences * config.vocabulary);
  const bool whole = request.log_probs || request.last_logits;
  const std::size_t height = whole ? 2 * config.layers : request.hook.height();
  for_parts(model, batch, kPartRows, [&](std::size_t first, std::size_t last) {
    Transformer::Lease workspace(model);
    Capture capture;
    if (request.capture) {
      capture.hook = request.hook;
      capture.mask = request.mask;
      capture.first_output = first_output.data();
      capture.out = result.captured.data();
    }
    Pass pass(model, *workspace, batch, first, last, request.interventions,
              request.capture ? &capture : nullptr, false);
    const float* x = pass.forward(height);
    if (request.capture) {
      const float* captured = result.captured.data();
      for (std::size_t i = first_output[first] * d; i < first_output[last] * d; ++i) {
        if (std::isfinite(captured[i])) continue;
        const std::size_t row = i / d;
        std::size_t s = first;
        while (first_output[s + 1] <= row) ++s;
        fail(ErrorCode::non_finite, "captured activations: value " + std::to_string(i % d) +
                                        " of captured row " + std::to_string(row - first_output[s]) +
                                        " of sequence " + std::to_string(s) + " is not finite");
      }
    }
    if (request.log_probs)
      next_token_log_probs(pass, x, result.log_probs.data() + (batch.offsets[first] - batch.offsets[0]));
    if (request.last_logits) {
      const std::size_t count = last - first;
      std::uint32_t* selected = workspace->selected.need(count);
      for (std::size_t s = first; s < last; ++s)
        selected[s - first] = batch.offsets[s + 1] - batch.offsets[first] - 1;
      final_norm(model, *workspace, x, selected, count);
      float* logits = result.last_logits.data() + first * config.vocabulary;
      unembed(model, workspace->normed.data(), count, logits);
      for (std::size_t i = 0; i < count * config.vocabulary; ++i)
        require(std::isfinite(logits[i]), ErrorCode::non_finite,
                "logit " + std::to_string(i % config.vocabulary) + " after sequence " +
                    std::to_string(first + i / config.vocabulary) + " is not finite");
    }
    if (request.tick) request.tick(last - first);
  });
  return result;
}

}  // namespace personascope
