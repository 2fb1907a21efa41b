// A transformer's weights, with what is derived from them: packed copies for the matrix kernels, rotary
// tables, adapters. Reading (forward, sampling) may happen on several threads at once under `lock` held
// shared; whoever changes weights holds it exclusively and calls `changed`.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "native/core/aligned.h"
#include "native/kernels/gemm/gemm.h"
#include "native/kernels/rope/rope.h"
#include "native/transformer/config.h"
#include "native/transformer/layout.h"
#include "native/transformer/lora.h"

namespace personascope {

struct Workspace;

// A matrix in the order in which products read it: forward for x W, backward for dy W^T.
struct PackedLinear {
  PackedMatrix forward, backward;
};

class Transformer {
 public:
  // All weights zero.
  explicit Transformer(const TransformerConfig& config);
  ~Transformer();
  // A copy of weights and adapters.
  std::unique_ptr<Transformer> clone() const;

  const TransformerConfig config;
  const ParameterLayout layout;
  AlignedBuffer<float> weights;  // the arena
  AdapterSet adapters;
  RopeTable rope;  // [positions, head_dim / 2]; empty in the GPT-2 family

  // Fresh weights as GPT-2's: normal with standard deviation initial_std, output projections of both halves
  // of a block divided by sqrt(2 layers), norms 1, biases 0. Each parameter draws from its own stream of the
  // seed.
  void initialise(std::uint64_t seed);

  float* parameter(std::size_t index) { return weights.data() + layout.parameters[index].offset; }
  const float* parameter(std::size_t index) const { return weights.data() + layout.parameters[index].offset; }
  const float* optional(std::size_t index) const { return index == kNone ? nullptr : parameter(index); }
  const Adapter* adapter(const Linear& linear) const;

  // To be called after weights changed, with the lock held exclusively; `index` names one parameter.
  void changed();
  void changed(std::size_t index);
  // Brings the packed copies up to date. Thread-safe; called before a pass, with the lock held.
  void prepare(bool backward) const;
  // Null where the model is too large for a second copy: then the kernels pack as they go, with the same
  // result.
  const PackedMatrix* packed_forward(const Linear& linear) const;
  const PackedMatrix* packed_backward(const Linear& linear) const;
  const PackedMatrix* packed_unembedding() const;           // normed rows [*, d] -> logits
  const PackedMatrix* packed_unembedding_backward() const;  // dlogits -> rows

  // Whether passes over parts of a batch run side by side, one a thread, rather than one after the other with
  // every kernel on all threads. Depends on the model alone; never changes results.
  bool small() const { return layout.count <= (std::size_t{1} << 23); }

  // Scratch memory of a pass, kept for the next one.
  class Lease {
   public:
    explicit Lease(const Transformer& model);
    ~Lease();
    Workspace& operator*() const { return *workspace_; }
    Workspace* operator->() const { return workspace_.get(); }

   private:
    const Transformer& model_;
    std::unique_ptr<Workspace> workspace_;
  };

  // Whether packed copies are kept; false for models so large that a second copy would weigh. Never changes
  // results.
  bool keeps_packed;

  mutable std::shared_mutex lock;

 private:
  struct Packed;
  mutable std::mutex packing_;
  std::unique_ptr<Packed> packed_;
  mutable std::mutex pool_lock_;
  mutable std::vector<std::unique_ptr<Workspace>> pool_;
};

}  // namespace personascope
