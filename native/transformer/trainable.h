// The choice of the parameters that training changes.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "native/transformer/model.h"

namespace personascope {

// Which parameters are trained, and where their gradients lie in one arena.
struct TrainableSet {
  std::vector<std::size_t> offset;          // by parameter of the layout; kNone: frozen
  std::vector<std::size_t> adapter_offset;  // by parameter of the adapters
  std::size_t total = 0;                    // floats, gaps included
  std::size_t count = 0;                    // trained values
  std::size_t lowest = kNone;               // smallest height of a trained parameter; kNone: none is trained
};

// Adapters, if there are any, are trained and everything else is frozen unless a pattern names it; without
// adapters an empty list means all. Throws invalid_argument if a pattern matches nothing.
TrainableSet choose_trainable(const Transformer& model, const std::vector<std::string>& patterns);

}  // namespace personascope
