#include "native/transformer/lora.h"

#include <atomic>
#include <cmath>
#include <utility>

#include "native/core/error.h"
#include "native/core/random.h"
#include "native/kernels/gemm/gemm.h"

namespace personascope {

namespace {

std::string module_name(const ParameterLayout& layout, const Linear& linear) {
  const std::string& weight = layout.parameters[linear.weight].name;
  return weight.substr(0, weight.size() - std::string(".weight").size());
}

}  // namespace

AdapterSet make_adapters(const ParameterLayout& layout, const LoraConfig& config, std::uint64_t seed) {
  require(config.rank >= 1 && config.rank <= 65536, ErrorCode::invalid_argument,
          "LoRA rank is " + std::to_string(config.rank) + ", expected 1 to 65536");
  require(std::isfinite(config.alpha) && config.alpha > 0, ErrorCode::invalid_argument,
          "LoRA alpha is " + std::to_string(config.alpha) + ", expected a positive number");
  require(!config.modules.empty(), ErrorCode::invalid_argument, "LoRA: no module named");
  AdapterSet set;
  static std::atomic<std::uint64_t> made{0};
  set.id = ++made;
  set.config = config;
  const double rank = static_cast<double>(config.rank);
  set.scale = static_cast<float>(config.alpha / (config.rank_stabilised ? std::sqrt(rank) : rank));
  const auto linears = layout.linears();
  set.of_linear.assign(linears.size(), kNone);
  std::vector<bool> used(config.modules.size(), false);
  std::size_t total = 0;
  const auto add = [&](const std::string& name, std::size_t rows, std::size_t columns, std::size_t height) {
    ParameterInfo info;
    info.name = name;
    info.shape = {rows, columns};
    info.size = rows * columns;
    info.offset = total;
    info.role = ParameterRole::matrix;
    info.height = height;
    total += (info.size + 15) / 16 * 16;
    set.parameters.push_back(std::move(info));
    return set.parameters.size() - 1;
  };
  for (const Linear* linear : linears) {
    const std::string name = module_name(layout, *linear);
    bool wanted = false;
    for (std::size_t p = 0; p < config.modules.size(); ++p)
      if (matches(name, config.modules[p])) used[p] = wanted = true;
    if (!wanted) continue;
    const std::size_t height = layout.parameters[linear->weight].height;
    Adapter adapter;
    adapter.linear = linear;
    adapter.a = add("base_model.model." + name + ".lora_A.weight", config.rank, linear->in, height);
    adapter.b = add("base_model.model." + name + ".lora_B.weight", linear->out, config.rank, height);
    set.of_linear[linear->index] = set.adapters.size();
    set.adapters.push_back(adapter);
  }
  for (std::size_t p = 0; p < used.size(); ++p) {
    if (used[p]) continue;
    std::string known;
    for (const Linear* linear : linears)
      if (layout.parameters[linear->weight].height <= 2)
        known += (known.empty() ? "" : ", ") + module_name(layout, *linear);
    fail(ErrorCode::invalid_argument,
         "LoRA module '" + config.modules[p] + "' matches none of the model's linear maps, such as " + known);
  }
  set.values = AlignedBuffer<float>(total);
  for (std::size_t i = 0; i < set.adapters.size(); ++i) {
    const auto& a = set.parameters[set.adapters[i].a];
    const Philox random(seed, 0x10ca0000ull + i);
    const double bound = 1 / std::sqrt(static_cast<double>(set.adapters[i].linear->in));
    for (std::size_t j = 0; j < a.size; ++j)
      set.values[a.offset + j] = static_cast<float>((2 * random.uniform(j) - 1) * bound);
  }
  return set;
}

void merge_adapters(const ParameterLayout& layout, const AdapterSet& set, float* weights) {
  for (const auto& adapter : set.adapters) {
    const Linear& linear = *adapter.linear;
    const float* a = set.values.data() + set.parameters[adapter.a].offset;  // [rank, in]
    const float* b = set.values.data() + set.parameters[adapter.b].offset;  // [out, rank]
    GemmArgs args;
    args.k = set.config.rank;
    args.alpha = set.scale;
    args.accumulate = true;
    args.c = weights + layout.parameters[linear.weight].offset;
    if (linear.in_out) {  // [in, out] += A^T B^T
      args.m = linear.in;
      args.n = args.ldc = linear.out;
      args.a = a;
      args.lda = linear.in;
      args.transpose_a = true;
      args.b = b;
      args.ldb = set.config.rank;
      args.transpose_b = true;
    } else {  // [out, in] += B A
      args.m = linear.out;
      args.n = args.ldc = linear.in;
      args.a = b;
      args.lda = set.config.rank;
      args.b = a;
      args.ldb = linear.in;
    }
    gemm(args);
  }
}

}  // namespace personascope
