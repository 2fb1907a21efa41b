#include "native/transformer/gradient.h"

#include <cmath>
#include <shared_mutex>
#include <string>

#include "native/transformer/backward.h"

namespace personascope {

GradientResult gradient_at(const Transformer& model, const GradientRequest& request) {
  std::shared_lock guard(model.lock);
  const Batch& batch = request.batch;
  check_batch(batch, model.config);
  check_interventions(request.interventions, model.config, batch.sequences);
  require(request.hook.layer < model.config.layers, ErrorCode::invalid_argument,
          "gradient: layer " + std::to_string(request.hook.layer) + ", the model has " +
              std::to_string(model.config.layers) + " layers");
  model.prepare(true);
  std::vector<float> ones;
  if (!request.weights) ones.assign(batch.rows(), 1.0f);
  const float* weights = request.weights ? request.weights : ones.data();
  for (std::size_t row = 0; row < batch.rows(); ++row)
    require(std::isfinite(weights[row]), ErrorCode::non_finite,
            "weight " + std::to_string(row) + " is not finite");
  const auto first_output = output_offsets(batch, request.mask);
  GradientResult result;
  result.rows = first_output.back();
  result.gradient = AlignedBuffer<float>(result.rows * model.config.width);
  std::vector<double> losses(batch.sequences, 0.0);  // of the part that begins with the sequence
  for_parts(model, batch, 512, [&](std::size_t first, std::size_t last) {
    Transformer::Lease workspace(model);
    Pass pass(model, *workspace, batch, first, last, request.interventions, nullptr, true);
    Capture hook;
    hook.hook = request.hook;
    hook.mask = request.mask;
    hook.first_output = first_output.data();
    hook.out = result.gradient.data();
    BackwardTarget target;
    target.hook = &hook;
    losses[first] = forward_backward(pass, weights, target, nullptr);
    if (request.tick) request.tick(last - first);
  });
  for (double loss : losses) result.loss += loss;
  return result;
}

}  // namespace personascope
