// Sequences of tokens, packed: rows offsets[s] .. offsets[s + 1] are sequence s; no row is padding.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "native/core/error.h"
#include "native/transformer/config.h"

namespace personascope {

struct Batch {
  const std::int32_t* tokens = nullptr;    // [offsets[sequences]]
  const std::uint32_t* offsets = nullptr;  // [sequences + 1], increasing
  std::size_t sequences = 0;
  // Tokens of each sequence that belong to the prompt, for interventions that tell prompt from answer; null:
  // all.
  const std::uint32_t* prompt_lengths = nullptr;  // [sequences]

  std::size_t begin(std::size_t s) const { return offsets[s]; }
  std::size_t length(std::size_t s) const { return offsets[s + 1] - offsets[s]; }
  std::size_t rows() const { return offsets[sequences] - offsets[0]; }
};

// Throws invalid_argument, naming sequence and position, unless every token and length fits the model.
inline void check_batch(const Batch& batch, const TransformerConfig& config) {
  require(batch.sequences > 0, ErrorCode::invalid_argument, "no sequences");
  for (std::size_t s = 0; s < batch.sequences; ++s) {
    require(batch.offsets[s] < batch.offsets[s + 1], ErrorCode::invalid_argument,
            "sequence " + std::to_string(s) + " is empty");
    require(batch.length(s) <= config.positions, ErrorCode::invalid_argument,
            "sequence " + std::to_string(s) + " has " + std::to_string(batch.length(s)) +
                " tokens, the model takes at most " + std::to_string(config.positions));
    for (std::size_t row = batch.offsets[s]; row < batch.offsets[s + 1]; ++row)
      require(batch.tokens[row] >= 0 && static_cast<std::size_t>(batch.tokens[row]) < config.vocabulary,
              ErrorCode::invalid_argument,
              "token " + std::to_string(row - batch.offsets[s]) + " of sequence " + std::to_string(s) +
                  " is " + std::to_string(batch.tokens[row]) + ", the vocabulary has " +
                  std::to_string(config.vocabulary));
    if (batch.prompt_lengths)
      require(batch.prompt_lengths[s] <= batch.length(s), ErrorCode::invalid_argument,
              "prompt of sequence " + std::to_string(s) + " has " + std::to_string(batch.prompt_lengths[s]) +
                  " tokens, the sequence " + std::to_string(batch.length(s)));
  }
}

}  // namespace personascope
