// The loss of a batch and its gradients: of chosen parameters, and of the residual stream at a hook.
//
//   loss = sum over rows of weight[row] * (-ln p(token[row + 1] | tokens up to row))
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/core/aligned.h"
#include "native/transformer/batch.h"
#include "native/transformer/inference.h"
#include "native/transformer/interventions.h"
#include "native/transformer/model.h"
#include "native/transformer/pass.h"

namespace personascope {

// Which parameters are trained, and where their gradients lie in one arena.
struct TrainableSet {
  std::vector<std::size_t> offset;          // by parameter of the layout; kNone: frozen
  std::vector<std::size_t> adapter_offset;  // by parameter of the adapters
  std::size_t total = 0;                    // floats, gaps included
  std::size_t count = 0;                    // trained values
  std::size_t lowest = kNone;               // smallest height of a trained parameter; kNone: none is trained
};

// Adapters, if there are any, are trained and everything else is frozen unless a pattern names it; without
// adapters an empty list means all. Throws invalid_argument if a pattern matches nothing.
TrainableSet choose_trainable(const Transformer& model, const std::vector<std::string>& patterns);

struct BackwardTarget {
  const TrainableSet* trainable = nullptr;  // null: no parameter's gradient is wanted
  float* gradients = nullptr;               // [trainable->total], added to
  const Capture* hook = nullptr;  // gradient with respect to the stream after the hook's interventions
};

// Forward, then backward over the pass's sequences (pass.keep must be set). weights: [rows of the batch], the
// last row of each sequence is not looked at. Writes -ln p of every target of non-zero weight to losses [rows
// of the batch] (others 0) if given, and returns the weighted sum.
double forward_backward(Pass& pass, const float* weights, const BackwardTarget& target, float* losses);

struct GradientRequest {
  Batch batch;
  std::vector<Intervention> interventions;
  const float* weights = nullptr;  // [rows]; null: 1 for every target
  Hook hook;
  const std::uint8_t* mask = nullptr;  // [rows] wanted; null: all
  Tick tick;
};

struct GradientResult {
  double loss = 0;
  std::size_t rows = 0;
  AlignedBuffer<float> gradient;  // [rows, d]
};

// Takes the model's lock shared.
GradientResult gradient_at(const Transformer& model, const GradientRequest& request);

}  // namespace personascope
