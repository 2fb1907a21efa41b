// Small random models and batches for the engine's tests.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "native/core/random.h"
#include "native/transformer/batch.h"
#include "native/transformer/model.h"

namespace personascope::test {

inline TransformerConfig small_config(Family family) {
  TransformerConfig config;
  config.family = family;
  config.vocabulary = 37;
  config.layers = 3;
  config.heads = 4;
  config.positions = 24;
  if (family == Family::gpt2) {
    config.width = 20;
    config.kv_heads = 4;
    config.head_dim = 5;
    config.hidden = 33;
  } else {
    config.width = 18;
    config.kv_heads = 2;
    config.head_dim = 6;
    config.hidden = 25;
    config.activation = Activation::silu;
    config.tied = config.qkv_bias = config.out_bias = config.mlp_bias = false;
  }
  config.initial_std = 0.3f;
  return config;
}

// Biases and norms are random too, so that no gradient is trivially zero.
inline std::shared_ptr<Transformer> small_model(Family family, std::uint64_t seed) {
  auto model = std::make_shared<Transformer>(small_config(family));
  model->initialise(seed);
  for (std::size_t p = 0; p < model->layout.parameters.size(); ++p) {
    const auto& info = model->layout.parameters[p];
    if (info.shape.size() > 1) continue;
    const Philox random(seed + 1, p);
    for (std::size_t i = 0; i < info.size; ++i)
      model->parameter(p)[i] += 0.2f * static_cast<float>(random.gaussian(i));
  }
  model->changed();
  return model;
}

struct OwnedBatch {
  std::vector<std::int32_t> tokens;
  std::vector<std::uint32_t> offsets = {0};
  std::vector<std::uint32_t> prompt_lengths;
  std::vector<float> weights;

  Batch view() const {
    Batch batch;
    batch.tokens = tokens.data();
    batch.offsets = offsets.data();
    batch.sequences = offsets.size() - 1;
    if (!prompt_lengths.empty()) batch.prompt_lengths = prompt_lengths.data();
    return batch;
  }
};

inline OwnedBatch random_batch(const std::vector<std::size_t>& lengths, std::size_t vocabulary,
                               std::uint64_t seed) {
  OwnedBatch batch;
  const Philox random(seed, 9);
  for (std::size_t length : lengths) {
    for (std::size_t t = 0; t < length; ++t) {
      const std::size_t i = batch.tokens.size();
      batch.tokens.push_back(static_cast<std::int32_t>(random.words(i)[0] % vocabulary));
      batch.weights.push_back(static_cast<float>(random.uniform(1000 + i) * 2 - 0.5));
    }
    batch.offsets.push_back(static_cast<std::uint32_t>(batch.tokens.size()));
  }
  return batch;
}

}  // namespace personascope::test
