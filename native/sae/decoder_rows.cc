#include "native/sae/decoder_rows.h"

#include <algorithm>

namespace personascope {

namespace {

// The matrix [latents, width] of one layer of [latents, layers, width].
Tensor layer_of(const Tensor& source, std::size_t layer) {
  Tensor one = source;
  one.shape = {source.shape[0], source.shape[2]};
  one.strides = {source.strides[0], source.strides[2]};
  one.data += static_cast<std::int64_t>(layer) * source.strides[1] *
              static_cast<std::int64_t>(dtype_size(source.dtype));
  return one;
}

}  // namespace

DecoderRows::DecoderRows(Tensor source) {
  if (source.shape.size() == 2) {
    layers_.push_back(std::make_unique<WeightRows>(std::move(source)));
    return;
  }
  source_ = std::move(source);
  for (std::size_t layer = 0; layer < source_.shape[1]; ++layer)
    layers_.push_back(std::make_unique<WeightRows>(layer_of(source_, layer)));
}

void DecoderRows::decode(DecodeArgs args, const LayerGates& gates) const {
  const float* const bias = args.bias;
  float* const out = args.out;
  const float* const values = args.codes.values;
  std::size_t pairs = 0;
  for (std::size_t t = 0; t < args.codes.tokens; ++t)
    pairs = std::max(pairs, args.codes.begin(t) + args.codes.count(t));
  args.width /= layers_.size();
  std::vector<float> counted;
  for (std::size_t layer = 0; layer < layers_.size(); ++layer) {
    const RowView& rows = layers_[layer]->view();
    args.weights = rows.data;
    args.dtype = rows.dtype;
    args.stride = rows.stride / dtype_size(rows.dtype);
    args.bias = bias + layer * args.width;
    args.out = out + layer * args.width;
    if (!gates.thresholds.empty()) {
      const float* norms = gates.norms.data() + layer * args.latents;
      counted.assign(values, values + pairs);
      for (std::size_t t = 0; t < args.codes.tokens; ++t)
        for (std::size_t c = args.codes.begin(t); c < args.codes.begin(t) + args.codes.count(t); ++c) {
          const std::size_t latent = args.codes.indices[c];
          // A latent that is not there is refused by the kernel.
          if (latent < args.latents && !(values[c] * norms[latent] > gates.thresholds[layer])) counted[c] = 0;
        }
      args.codes.values = counted.data();
    }
    personascope::decode(args);
  }
}

void DecoderRows::read(std::size_t latent, float* out) const {
  for (const auto& layer : layers_) {
    layer->read(latent, out);
    out += layer->columns();
  }
}

std::size_t DecoderRows::bytes() const {
  std::size_t sum = 0;
  for (const auto& layer : layers_) sum += layer->bytes();
  return sum;
}

}  // namespace personascope
