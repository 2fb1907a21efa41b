#include <cmath>

#include "native/kernels/decode/variants.h"

namespace personascope {

void decode_reference(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) {
    float* out = args.out + t * args.out_stride;
    for (std::size_t i = 0; i < args.width; ++i) {
      const float bias = args.bias ? args.bias[i] : 0.0f;
      out[i] = args.accumulate ? out[i] + bias : bias;
    }
    const std::size_t first = args.codes.begin(t), count = args.codes.count(t);
    for (std::size_t c = first; c < first + count; ++c) {
      const float* row = args.weights + args.codes.indices[c] * args.stride;
      for (std::size_t i = 0; i < args.width; ++i) out[i] = std::fma(args.codes.values[c], row[i], out[i]);
    }
  }
}

}  // namespace personascope
