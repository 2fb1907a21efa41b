// An SAE in the folder layout of SAELens (https://github.com/jbloomAus/SAELens): cfg.json, of version 6 or
// flat as before, and sae_weights.safetensors. For programs of the C interface; TypeScript reads this and the
// other formats by lib/sae/formats.
//
// Architectures topk, standard (relu), jumprelu and gated. Transcoders and reshaped activations are refused
// by name.
#pragma once
#include <cstddef>
#include <string>

#include "native/io/json.h"
#include "native/sae/spec.h"

namespace personascope {

// What cfg.json says of the arithmetic.
struct SaelensConfig {
  std::size_t latents = 0, width = 0;
  SelectionRule rule = SelectionRule::topk;
  std::size_t k = 0;              // topk
  bool has_threshold = false;     // jumprelu; else a threshold rule is relu
  bool scale_by_decoder = false;  // topk: latents are chosen, and codes told, by value x |W_dec row|
  bool subtract_decoder_bias = true;
  InputNorm input_norm = InputNorm::none;
};

// Throws format, naming `where`, the field, what was found and what was expected.
SaelensConfig saelens_config(const JsonValue& cfg, const std::string& where);

// The weights stay in the mapped file. Throws not_found, io, format and non_finite; messages name the file
// and the field or tensor.
SaeSpec read_saelens(const std::string& folder);

}  // namespace personascope
