#include "native/transformer/model.h"

#include <atomic>
#include <cmath>
#include <utility>

#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/transformer/workspace.h"

namespace personascope {

namespace {
// Floats of weights up to which packed copies are kept beside the arena.
constexpr std::size_t kMostPacked = std::size_t{1} << 27;
}  // namespace

struct Transformer::Packed {
  std::vector<PackedLinear> linears;
  PackedLinear unembedding;
  // One flag a matrix: 0 = out of date. The last entry is the unembedding's.
  std::vector<char> forward_ready, backward_ready;
};

Transformer::Transformer(const TransformerConfig& wanted)
    : config((validate(wanted), wanted)),
      layout(wanted),
      weights(layout.total),
      keeps_packed(layout.count <= kMostPacked),
      packed_(new Packed) {
  if (config.family == Family::llama) rope = rope_table(rotary_frequencies(config), config.positions);
  const std::size_t count = layout.linears().size();
  packed_->linears.resize(count);
  packed_->forward_ready.assign(count + 1, 0);
  packed_->backward_ready.assign(count + 1, 0);
}

Transformer::~Transformer() = default;

std::unique_ptr<Transformer> Transformer::clone() const {
  auto copy = std::make_unique<Transformer>(config);
  std::copy(weights.data(), weights.data() + weights.size(), copy->weights.data());
  if (!adapters.empty()) {
    copy->adapters = make_adapters(copy->layout, adapters.config, 0);
    std::copy(adapters.values.data(), adapters.values.data() + adapters.values.size(),
              copy->adapters.values.data());
  }
  return copy;
}

void Transformer::initialise(std::uint64_t seed) {
  const double deep = 1 / std::sqrt(2.0 * static_cast<double>(config.layers));
  std::vector<char> is_output(layout.parameters.size(), 0);
  for (const auto& block : layout.blocks) is_output[block.out.weight] = is_output[block.down.weight] = 1;
  for (std::size_t p = 0; p < layout.parameters.size(); ++p) {
    const auto& info = layout.parameters[p];
    float* values = parameter(p);
    const bool is_bias = info.role == ParameterRole::bias ||
                         (info.role == ParameterRole::norm && info.name.ends_with(".bias"));
    if (info.role == ParameterRole::norm || is_bias) {
      std::fill(values, values + info.size, is_bias ? 0.0f : 1.0f);
      continue;
    }
    const double std = config.initial_std * (is_output[p] ? deep : 1.0);
    const Philox random(seed, p);
    parallel_for(info.size, 4096, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) values[i] = static_cast<float>(std * random.gaussian(i));
    });
  }
  changed();
}

const Adapter* Transformer::adapter(const Linear& linear) const {
  if (adapters.empty()) return nullptr;
  const std::size_t index = adapters.of_linear[linear.index];
  return index == kNone ? nullptr : &adapters.adapters[index];
}

void Transformer::changed() {
  std::lock_guard guard(packing_);
  std::fill(packed_->forward_ready.begin(), packed_->forward_ready.end(), 0);
  std::fill(packed_->backward_ready.begin(), packed_->backward_ready.end(), 0);
}

void Transformer::changed(std::size_t index) {
  std::lock_guard guard(packing_);
  if (index == layout.unembedding) packed_->forward_ready.back() = packed_->backward_ready.back() = 0;
  for (const Linear* linear : layout.linears())
    if (linear->weight == index)
      packed_->forward_ready[linear->index] = packed_->backward_ready[linear->index] = 0;
}

void Transformer::prepare(bool backward) const {
  if (!keeps_packed) return;
  std::lock_guard guard(packing_);
  const auto linears = layout.linears();
  struct Task {
    std::size_t index;
    bool backward;
  };
  std::vector<Task> tasks;
  for (std::size_t i = 0; i <= linears.size(); ++i) {
    if (!packed_->forward_ready[i]) tasks.push_back({i, false});
    if (backward && !packed_->backward_ready[i]) tasks.push_back({i, true});
  }
  if (tasks.empty()) return;
  parallel_for(tasks.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const Task task = tasks[t];
      if (task.index == linears.size()) {  // unembedding [vocabulary, d]
        const float* b = parameter(layout.unembedding);
        if (task.backward)
          packed_->unembedding.backward.pack(b, config.width, false, config.vocabulary, config.width);
        else
          packed_->unembedding.forward.pack(b, config.width, true, config.width, config.vocabulary);
        continue;
      }
      const Linear& linear = *linears[task.index];
      const float* b = parameter(linear.weight);
      auto& packed = packed_->linears[task.index];
      if (task.backward)
        packed.backward.pack(b, linear.in_out ? linear.out : linear.in, linear.in_out, linear.out, linear.in);
      else
        packed.forward.pack(b, linear.in_out ? linear.out : linear.in, !linear.in_out, linear.in, linear.out);
    }
  });
  for (const Task& task : tasks)
    (task.backward ? packed_->backward_ready : packed_->forward_ready)[task.index] = 1;
}

const PackedMatrix* Transformer::packed_forward(const Linear& linear) const {
  return packed_->forward_ready[linear.index] ? &packed_->linears[linear.index].forward : nullptr;
}
const PackedMatrix* Transformer::packed_backward(const Linear& linear) const {
  return packed_->backward_ready[linear.index] ? &packed_->linears[linear.index].backward : nullptr;
}
const PackedMatrix* Transformer::packed_unembedding() const {
  return packed_->forward_ready.back() ? &packed_->unembedding.forward : nullptr;
}
const PackedMatrix* Transformer::packed_unembedding_backward() const {
  return packed_->backward_ready.back() ? &packed_->unembedding.backward : nullptr;
}

Transformer::Lease::Lease(const Transformer& model) : model_(model) {
  {
    std::lock_guard guard(model.pool_lock_);
    if (!model.pool_.empty()) {
      workspace_ = std::move(model.pool_.back());
      model.pool_.pop_back();
    }
  }
  if (!workspace_) workspace_ = std::make_unique<Workspace>();
}

Transformer::Lease::~Lease() {
  std::lock_guard guard(model_.pool_lock_);
  model_.pool_.push_back(std::move(workspace_));
}

}  // namespace personascope
