// The loss of a batch and its gradients: of chosen parameters, and of the residual stream at a hook.
//
//   loss = sum over rows of weight[row] * (-ln p(token[row + 1] | tokens up to row))
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/transformer/batch.h"
#include "native/transformer/model.h"
#include "native/transformer/pass.h"
#include "native/transformer/trainable.h"

namespace personascope {

struct BackwardTarget {
  const TrainableSet* trainable = nullptr;  // null: no parameter's gradient is wanted
  float* gradients = nullptr;               // [trainable->total], added to
  const Capture* hook = nullptr;  // gradient with respect to the stream after the hook's interventions
};

// Forward, then backward over the pass's sequences (pass.keep must be set). weights: [rows of the batch], the
// last row of each sequence is not looked at. Writes -ln p of every target of non-zero weight to losses [rows
// of the batch] (others 0) if given, and returns the weighted sum.
double forward_backward(Pass& pass, const float* weights, const BackwardTarget& target, float* losses);

}  // namespace personascope
