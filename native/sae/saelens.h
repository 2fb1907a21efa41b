// An SAE in the folder layout of SAELens (https://github.com/jbloomAus/SAELens): cfg.json, of version 6 or
// flat as before, and sae_weights.safetensors. For programs of the C interface; the TypeScript side reads
// this and the other formats (lib/sae/formats).
//
// Architectures: topk, and standard (relu) and jumprelu where codes vary in number. Others, and
// normalisations of the input at run time, are refused by name.
#pragma once
#include <cstddef>
#include <string>

#include "native/io/json.h"
#include "native/sae/sae.h"

namespace personascope {

// What cfg.json says of the arithmetic.
struct SaelensConfig {
  std::size_t latents = 0, width = 0;
  std::size_t k = 0;
  bool subtract_decoder_bias = true;
};

// Throws format, naming `where`, the field, what was found and what was expected.
SaelensConfig saelens_config(const JsonValue& cfg, const std::string& where);

// Throws not_found, io, format and non_finite; messages name the file and the field or tensor.
Sae load_saelens(const std::string& folder);

}  // namespace personascope
