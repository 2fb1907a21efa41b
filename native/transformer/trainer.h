// Training: gradients of a batch, clipped, then AdamW on the chosen parameters. The state (moments, step
// count) with the weights resumes to the same bits.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "native/core/aligned.h"
#include "native/transformer/backward.h"
#include "native/transformer/model.h"

namespace personascope {

struct TrainerConfig {
  std::vector<std::string> trainable;  // patterns of parameter names, see choose_trainable
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0;
  bool decay_all = false;  // else only matrices and embeddings decay, not biases and norms
  double clip = 0;         // largest norm of the gradient; 0: no clipping
  std::uint64_t seed = 0;  // of the noise
  // Each sequence gets one random vector at each of these hooks, added to all its tokens: of length up to
  // noise_strength (uniform) times the root mean square norm of the centred residual stream there, as the
  // step before measured it (the first step has no noise).
  std::vector<Hook> noise_hooks;
  double noise_strength = 0;
};

struct StepRequest {
  Batch batch;
  const float* weights = nullptr;  // [rows], of the loss of each row's next token; may be negative
  double normaliser = 0;           // the loss is the weighted sum over this; 0: the sum of |weights|
  double learning_rate = 0;
  std::vector<Intervention> interventions;
  std::function<void()>
      check;  // between parts of the batch; may throw aborted, the weights then are as before
};

struct StepResult {
  double loss = 0;           // weighted sum / normaliser
  double gradient_norm = 0;  // before clipping
  std::size_t targets = 0;   // rows of non-zero weight
};

struct MomentView {
  const ParameterInfo* parameter;
  float *first, *second;  // [parameter->size]
};

class Trainer {
 public:
  Trainer(std::shared_ptr<Transformer> model, const TrainerConfig& config);

  // Takes the model's lock: shared while gradients are computed, exclusively for the update. One step at a
  // time.
  StepResult step(const StepRequest& request);

  const std::shared_ptr<Transformer>& model() const { return model_; }
  std::int64_t steps() const { return steps_; }
  void set_steps(std::int64_t steps);
  std::size_t trained_values() const { return trainable_.count; }
  std::vector<MomentView> moments();
  // The gradient of the last step [parameter size], before clipping; null if the parameter is frozen.
  const float* gradient(const std::string& name) const;
  // Root mean square norm of the centred residual stream at each noise hook; part of the state.
  const std::vector<double>& noise_scales() const { return noise_scales_; }
  void set_noise_scales(const std::vector<double>& scales);
  // Gradients alone, without an update: for tests and for those who bring their own optimiser.
  StepResult accumulate(const StepRequest& request);

 private:
  struct Run {  // of floats that lie side by side in weights and gradients and are updated alike
    bool adapter;
    std::size_t values, gradient, size;
    bool decay;
  };
  void reduce(std::size_t groups);

  std::shared_ptr<Transformer> model_;
  TrainerConfig config_;
  TrainableSet trainable_;
  std::uint64_t adapters_;  // the set that `trainable_` speaks of
  std::vector<Run> runs_;
  std::vector<AlignedBuffer<float>> gradients_;  // one arena a group; the sum ends in the first
  AlignedBuffer<float> first_, second_;          // moments
  std::vector<float> noise_;                     // [hooks, sequences, d]
  std::vector<float> noise_amounts_;             // [hooks, sequences]
  std::vector<double> noise_scales_;             // [hooks]
  std::vector<float> scaled_;                    // [rows] weights / normaliser
  std::int64_t steps_ = 0;
};

}  // namespace personascope
