// Reading weights from safetensors files into a model.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "native/transformer/model.h"

namespace personascope {

// Fills every parameter from the files, which together hold each tensor once, in F32, F16 or BF16. Names are
// those of transformers, with or without the base model's prefix; causal masks and rotary frequencies that
// old checkpoints carry are passed over. Missing, surplus or misshapen tensors and values that are not finite
// are errors that name file and tensor. Takes the model's lock exclusively; after an error the weights are
// undefined.
void load_weights(Transformer& model, const std::vector<std::string>& files,
                  const std::function<void(std::size_t done, std::size_t total)>& progress);

// Fills the adapters (already made) from PEFT's adapter_model.safetensors.
void load_adapters(Transformer& model, const std::string& file);

}  // namespace personascope
