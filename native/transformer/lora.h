// Low-rank adapters (Hu et al. 2022): y += scale x A^T B^T beside a linear map, A [rank, in], B [out, rank],
// in the names and orientation of PEFT's adapter_model.safetensors. scale = alpha / rank, or alpha /
// sqrt(rank) when rank-stabilised (Kalajdzievski 2023). A starts uniform as PEFT's (Kaiming, a = sqrt 5), B
// at zero.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "native/core/aligned.h"
#include "native/transformer/layout.h"

namespace personascope {

struct LoraConfig {
  std::size_t rank = 0;
  double alpha = 0;
  bool rank_stabilised = false;
  std::vector<std::string> modules;  // patterns of module names, see matches()
};

struct Adapter {
  const Linear* linear = nullptr;
  std::size_t a = 0, b = 0;  // indices of parameters
};

struct AdapterSet {
  LoraConfig config;
  float scale = 0;
  std::uint64_t id = 0;  // another for every set that was ever made; 0: no adapters
  std::vector<ParameterInfo> parameters;
  AlignedBuffer<float> values;  // arena of the parameters
  std::vector<Adapter> adapters;
  std::vector<std::size_t> of_linear;  // index into adapters, or kNone, by Linear::index

  bool empty() const { return adapters.empty(); }
};

// Throws invalid_argument if a pattern matches no linear map of the model.
AdapterSet make_adapters(const ParameterLayout& layout, const LoraConfig& config, std::uint64_t seed);

// Adds scale B A to each adapted matrix of the arena `weights`.
void merge_adapters(const ParameterLayout& layout, const AdapterSet& adapters, float* weights);

}  // namespace personascope
