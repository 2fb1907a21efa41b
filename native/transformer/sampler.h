// Sampling answers with a KV cache. Every row draws from its own counter-based stream, so its answer depends
// neither on the rows beside it nor on threads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/transformer/batch.h"
#include "native/transformer/inference.h"
#include "native/transformer/interventions.h"
#include "native/transformer/model.h"

namespace personascope {

struct SampleRequest {
  Batch prompts;  // prompt_lengths is not used: all of it is prompt
  // Answers wanted: one of prompt `row_prompt[r]`, drawn from stream `row_stream[r]` of the seed.
  std::size_t rows = 0;
  const std::uint32_t* row_prompt = nullptr;  // [rows]
  const std::uint64_t* row_stream = nullptr;  // [rows]
  std::uint64_t seed = 0;
  std::size_t max_new_tokens = 32;
  double temperature = 1;  // 0: the most likely token, ties to the lower id
  double top_p = 1;        // keep the most likely tokens whose probability first reaches this
  std::size_t top_k = 0;   // keep only so many; 0: all
  std::vector<std::int32_t> stop;
  std::vector<Intervention> interventions;  // per-sequence vectors are by prompt
  std::size_t batch_rows = 64;              // decoded together; changes no answer
  Tick tick;                                // counts rows
};

struct SampleResult {
  std::size_t stride = 0;              // places a row has below: the longest answer and a stop token
  std::vector<std::int32_t> tokens;    // [rows, stride], new tokens, the stop token included
  std::vector<float> log_probs;        // [rows, stride], ln p at temperature 1, untruncated
  std::vector<std::uint32_t> lengths;  // [rows], tokens of the answer, the stop token not counted
  std::vector<std::uint8_t> stopped;   // [rows], by a stop token
};

// An answer also ends, unstopped, where the model's positions end. Takes the model's lock shared.
SampleResult sample(const Transformer& model, const SampleRequest& request);

// Draws from logits [vocabulary] with u in [0, 1); `order` and `weights` are scratch of that size.
struct Drawn {
  std::int32_t token;
  float log_prob;
};
Drawn draw(const float* logits, std::size_t vocabulary, double temperature, double top_p, std::size_t top_k,
           double u, std::vector<std::uint32_t>& order, std::vector<float>& weights);

}  // namespace personascope
