// What a decoder-only transformer is made of: one description for the GPT-2 family (LayerNorm, learned
// positions, biases, [in, out] matrices) and the Llama family (RMSNorm, rotary positions, grouped queries,
// gated feed-forward, [out, in] matrices). TypeScript reads it from Hugging Face's config.json.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "native/kernels/activation/activation.h"

namespace personascope {

enum class Family : int { gpt2 = 0, llama = 1 };

// How rotary frequencies are stretched beyond the context that the model was first trained for.
enum class RopeScaling : int { none = 0, linear = 1, llama3 = 2 };

struct TransformerConfig {
  Family family = Family::gpt2;
  std::size_t vocabulary = 0;
  std::size_t width = 0;  // of the residual stream, d_model
  std::size_t layers = 0;
  std::size_t heads = 0;
  std::size_t kv_heads = 0;  // = heads in the GPT-2 family
  std::size_t head_dim = 0;
  std::size_t hidden = 0;     // of the feed-forward block, d_ff
  std::size_t positions = 0;  // longest sequence
  float norm_eps = 1e-5f;
  Activation activation = Activation::gelu_tanh;
  bool tied = true;      // the unembedding is the token embedding
  bool qkv_bias = true;  // biases of the query, key and value projections
  bool out_bias = true;  // bias of the attention's output projection
  bool mlp_bias = true;  // biases of the feed-forward block
  double rope_theta = 10000;
  RopeScaling rope_scaling = RopeScaling::none;
  double rope_factor = 1, rope_low_freq_factor = 1, rope_high_freq_factor = 4;
  double rope_original_positions = 8192;
  float initial_std = 0.02f;  // standard deviation of fresh weights

  std::size_t query_width() const { return heads * head_dim; }
  std::size_t kv_width() const { return kv_heads * head_dim; }
  // Columns of a token's queries, keys and values side by side.
  std::size_t qkv_width() const { return query_width() + 2 * kv_width(); }
};

// Throws invalid_argument, naming the setting, unless the parts fit together.
void validate(const TransformerConfig& config);

// Inverse frequencies [head_dim / 2] with the configured scaling (that of Llama 3.1 in transformers'
// modeling_rope_utils.py), fp32.
std::vector<float> rotary_frequencies(const TransformerConfig& config);

}  // namespace personascope
