#include <cmath>
#include <cstring>

#include "native/core/half.h"
#include "native/kernels/decode/variants.h"

namespace personascope {

namespace {

float element(const DecodeArgs& args, std::size_t at) {
  const auto* bytes = static_cast<const char*>(args.weights);
  if (args.dtype == Dtype::f32) {
    float value;
    std::memcpy(&value, bytes + at * sizeof value, sizeof value);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, bytes + at * sizeof bits, sizeof bits);
  return args.dtype == Dtype::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

}  // namespace

void decode_reference(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) {
    float* out = args.out + t * args.out_stride;
    for (std::size_t i = 0; i < args.width; ++i) {
      const float bias = args.bias ? args.bias[i] : 0.0f;
      out[i] = args.accumulate ? out[i] + bias : bias;
    }
    const std::size_t first = args.codes.begin(t), count = args.codes.count(t);
    for (std::size_t c = first; c < first + count; ++c)
      for (std::size_t i = 0; i < args.width; ++i)
        out[i] =
            std::fma(args.codes.values[c], element(args, args.codes.indices[c] * args.stride + i), out[i]);
  }
}

}  // namespace personascope
