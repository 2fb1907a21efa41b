#include <cmath>

#include "native/kernels/sae_update/variants.h"

namespace personascope {

namespace {

float canonical_product(const float* a, const float* b, std::size_t n) {
  float sums[64] = {};
  for (std::size_t i = 0; i < n; ++i) sums[i % 64] = std::fma(a[i], b[i], sums[i % 64]);
  for (std::size_t half = 32; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  return sums[0];
}

void adam(const Moments& p, const float* gradient, std::size_t n, const AdamStep& step) {
  for (std::size_t i = 0; i < n; ++i) {
    const float g = gradient[i];
    p.m[i] = std::fma(step.beta1, p.m[i], (1 - step.beta1) * g);
    p.v[i] = std::fma(step.beta2, p.v[i], (1 - step.beta2) * g * g);
    const float size = std::sqrt(p.v[i] * step.correction2) + step.epsilon;
    p.w[i] = p.w[i] - step.rate * (p.m[i] * step.correction1) / size;
  }
}

void update(const SaeUpdateArgs& args, std::size_t begin, std::size_t end, float* centre_gradient,
            float* scratch) {
  const std::size_t n = args.stride;
  for (std::size_t l = begin; l < end; ++l) {
    float *decoder = scratch, *encoder = scratch + n;
    float bias = 0;
    for (std::size_t i = 0; i < 2 * n; ++i) scratch[i] = 0;
    float *w_dec = args.decoder.w + l * n, *w_enc = args.encoder.w + l * n;
    for (std::size_t p = 0; p < args.part_count; ++p) {
      const LatentPairs& pairs = args.parts[p];
      for (std::size_t c = pairs.begin[l]; c < pairs.begin[l + 1]; ++c) {
        const float* gradient = pairs.gradient + pairs.token[c] * n;
        const float* x = args.x + pairs.token[c] * n;
        const float slope = canonical_product(w_dec, gradient, n);
        for (std::size_t i = 0; i < n; ++i) decoder[i] = std::fma(pairs.value[c], gradient[i], decoder[i]);
        for (std::size_t i = 0; i < n; ++i) encoder[i] = std::fma(slope, x[i], encoder[i]);
        bias += slope;
      }
    }
    for (std::size_t i = 0; i < n; ++i) centre_gradient[i] = std::fma(bias, w_enc[i], centre_gradient[i]);
    if (args.encoder_gradient) {
      for (std::size_t i = 0; i < n; ++i) {
        args.encoder_gradient[l * n + i] = encoder[i];
        args.decoder_gradient[l * n + i] = decoder[i];
      }
      args.bias_gradient[l] = bias;
      continue;
    }
    const float along = canonical_product(decoder, w_dec, n);
    for (std::size_t i = 0; i < n; ++i) decoder[i] = std::fma(-along, w_dec[i], decoder[i]);
    adam({w_dec, args.decoder.m + l * n, args.decoder.v + l * n}, decoder, n, args.adam);
    const float squares = canonical_product(w_dec, w_dec, n);
    if (squares > 0) {
      const float scale = 1 / std::sqrt(squares);
      for (std::size_t i = 0; i < n; ++i) w_dec[i] = w_dec[i] * scale;
    }
    adam({w_enc, args.encoder.m + l * n, args.encoder.v + l * n}, encoder, n, args.adam);
    adam({args.bias.w + l, args.bias.m + l, args.bias.v + l}, &bias, 1, args.adam);
  }
}

}  // namespace

const SaeUpdateKernels sae_update_reference = {update, adam};

}  // namespace personascope
