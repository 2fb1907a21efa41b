// A decoder as rows that kernels read: one matrix, or one a layer of a crosscoder, whose layers lie apart.
#pragma once
#include <cstddef>
#include <memory>
#include <vector>

#include "native/core/tensor.h"
#include "native/kernels/decode/decode.h"
#include "native/sae/weight_rows.h"

namespace personascope {

// Codes of a decoupled crosscoder count in some layers only: where value x norm > threshold.
struct LayerGates {
  std::vector<float> norms;       // [layers, latents]
  std::vector<float> thresholds;  // [layers]; empty: every code counts in every layer
};

class DecoderRows {
 public:
  // [latents, width], or [latents, layers, width / layers] of a mapped file; one without an owner is copied.
  explicit DecoderRows(Tensor source);

  // args.out [tokens, args.width] of args.codes, with args.bias; args say nothing of weights. The first call
  // may copy.
  void decode(DecodeArgs args, const LayerGates& gates) const;
  // out [width] = one row in fp32. Throws non_finite.
  void read(std::size_t latent, float* out) const;
  // As it was given, or the copy.
  const Tensor& source() const { return layers_.size() == 1 ? layers_[0]->source() : source_; }
  // Of one layer: [latents, width / layers].
  std::size_t layers() const { return layers_.size(); }
  const Tensor& layer(std::size_t number) const { return layers_[number]->source(); }
  // The rows of all of it, or null where there is one matrix a layer.
  const WeightRows* whole() const { return layers_.size() == 1 ? layers_[0].get() : nullptr; }
  // Memory of its own, bytes.
  std::size_t bytes() const;

 private:
  Tensor source_;
  std::vector<std::unique_ptr<WeightRows>> layers_;
};

}  // namespace personascope
