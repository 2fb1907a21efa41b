// The gradient of a batch's loss with respect to the residual stream at a hook.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/core/aligned.h"
#include "native/transformer/batch.h"
#include "native/transformer/inference.h"
#include "native/transformer/interventions.h"
#include "native/transformer/model.h"

namespace personascope {

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
