// Reading a model: capture of the residual stream, log-probabilities, loss, logits.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "native/core/aligned.h"
#include "native/transformer/batch.h"
#include "native/transformer/interventions.h"
#include "native/transformer/model.h"

namespace personascope {

// Called between parts of a long pass with the sequences done since the last call; may throw aborted.
// Thread-safe.
using Tick = std::function<void(std::size_t sequences)>;

struct ForwardRequest {
  Batch batch;
  std::vector<Intervention> interventions;
  bool capture = false;
  Hook hook;                           // of the capture
  const std::uint8_t* mask = nullptr;  // [rows], rows to capture; null: all
  bool log_probs = false;              // of each next token
  bool last_logits = false;            // after the last token of each sequence
  Tick tick;
};

struct ForwardResult {
  std::size_t captured_rows = 0;
  AlignedBuffer<float> captured;  // [captured_rows, d], sequence by sequence
  AlignedBuffer<float>
      log_probs;  // [rows], ln p(token t + 1 | tokens <= t); 0 for the last token of a sequence
  AlignedBuffer<float> last_logits;  // [sequences, vocabulary]
};

// Runs no further up than what is asked for needs. Takes the model's lock shared.
ForwardResult forward(const Transformer& model, const ForwardRequest& request);

// Places of each sequence's rows in a compact output: the sum over earlier sequences of masked rows, and the
// total.
std::vector<std::size_t> output_offsets(const Batch& batch, const std::uint8_t* mask);

}  // namespace personascope
