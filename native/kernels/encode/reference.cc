// Encoding in plain C++: screening by canonical products, nothing blocked.
#include <cmath>

#include "native/kernels/encode/variants.h"

namespace personascope {

namespace {

float canonical_product(const float* w, const float* x, std::size_t padded) {
  float sums[64] = {};
  for (std::size_t i = 0; i < padded; ++i) sums[i % 64] = std::fma(w[i], x[i], sums[i % 64]);
  for (std::size_t half = 32; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

double prepare(const float* x, const float* centre, std::size_t width, float* row) {
  double squares = 0;
  for (std::size_t i = 0; i < padded_width(width); ++i) {
    row[i] = i < width ? (centre ? x[i] - centre[i] : x[i]) : 0.0f;
    squares += static_cast<double>(row[i]) * row[i];
  }
  return squares;
}

void pack(const float*, std::size_t, std::size_t, float*) {}  // `screen` reads the rows

void screen(const ScreenArgs& args) {
  const EncoderWeights& encoder = *args.encoder;
  const std::size_t padded = padded_width(encoder.width);
  for (std::size_t latent = args.begin; latent < args.end; ++latent) {
    for (std::size_t token = 0; token < args.tokens; ++token) {
      const float value =
          canonical_product(encoder.weights + latent * encoder.stride, args.rows + token * padded, padded) +
          encoder.bias[latent];
      if (!(value >= args.thresholds[token])) continue;
      CandidateList& list = args.lists[token];
      if (list.count == args.capacity) args.compact(args.context, token);
      list.upper[list.count] = list.lower[list.count] = value;
      list.index[list.count++] = static_cast<std::uint32_t>(latent);
    }
  }
}

void products(const EncoderWeights& encoder, const float* row, const std::uint32_t* index, std::size_t count,
              float* values) {
  for (std::size_t i = 0; i < count; ++i)
    values[i] =
        canonical_product(encoder.weights + index[i] * encoder.stride, row, padded_width(encoder.width)) +
        encoder.bias[index[i]];
}

double squared_norm(const float* row, std::size_t padded) {
  double squares = 0;
  for (std::size_t i = 0; i < padded; ++i) squares += static_cast<double>(row[i]) * row[i];
  return squares;
}

std::size_t count_at_least(const float* values, std::size_t n, float bound) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; ++i) count += values[i] >= bound;
  return count;
}

}  // namespace

const EncodeKernels encode_reference = {8,      prepare,  pack,         screen,
                                        screen, products, squared_norm, count_at_least};

}  // namespace personascope
