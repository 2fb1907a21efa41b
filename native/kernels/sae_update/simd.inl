// The body of the ISA variants of the SAE's training step.

namespace personascope {
namespace {

// n: a multiple of 16.
inline float canonical_product(const float* a, const float* b, std::size_t n) {
  Sum64 sums;
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64)
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Sum64::kParts; ++p)
      sums.part[p] = v_fma(v_load(a + i + p * kLanes), v_load(b + i + p * kLanes), sums.part[p]);
#pragma GCC unroll 8
  for (std::size_t p = 0; p < Sum64::kParts; ++p)
    if (i + p * kLanes < n)
      sums.part[p] = v_fma(v_load(a + i + p * kLanes), v_load(b + i + p * kLanes), sums.part[p]);
  return sums.total();
}

inline Vec adam_part(Vec w, Vec g, Vec* m, Vec* v, const AdamStep& step) {
  *m = v_fma(v_set(step.beta1), *m, v_mul(v_set(1 - step.beta1), g));
  *v = v_fma(v_set(step.beta2), *v, v_mul(v_mul(v_set(1 - step.beta2), g), g));
  const Vec size = v_add(v_sqrt(v_mul(*v, v_set(step.correction2))), v_set(step.epsilon));
  return v_sub(w, v_div(v_mul(v_set(step.rate), v_mul(*m, v_set(step.correction1))), size));
}

void adam(const Moments& p, const float* gradient, std::size_t n, const AdamStep& step) {
  for (std::size_t i = 0; i < n; i += kLanes) {
    const std::size_t count = n - i < kLanes ? n - i : kLanes;
    Vec m = v_load(p.m + i, v_first(count)), v = v_load(p.v + i, v_first(count));
    const Vec w =
        adam_part(v_load(p.w + i, v_first(count)), v_load(gradient + i, v_first(count)), &m, &v, step);
    v_store(p.w + i, w, v_first(count));
    v_store(p.m + i, m, v_first(count));
    v_store(p.v + i, v, v_first(count));
  }
}

void update(const SaeUpdateArgs& args, std::size_t begin, std::size_t end, float* centre_gradient,
            float* scratch) {
  const std::size_t n = args.stride;
  for (std::size_t l = begin; l < end; ++l) {
    float *decoder = scratch, *encoder = scratch + n;
    float bias = 0;
    for (std::size_t i = 0; i < 2 * n; i += kLanes) v_store(scratch + i, v_zero());
    float *w_dec = args.decoder.w + l * n, *w_enc = args.encoder.w + l * n;
    for (std::size_t p = 0; p < args.part_count; ++p) {
      const LatentPairs& pairs = args.parts[p];
      for (std::size_t c = pairs.begin[l]; c < pairs.begin[l + 1]; ++c) {
        const float* gradient = pairs.gradient + pairs.token[c] * n;
        const float* x = args.x + pairs.token[c] * n;
        const float slope = canonical_product(w_dec, gradient, n);
        const Vec value = v_set(pairs.value[c]), by = v_set(slope);
        for (std::size_t i = 0; i < n; i += kLanes) {
          v_store(decoder + i, v_fma(value, v_load(gradient + i), v_load(decoder + i)));
          v_store(encoder + i, v_fma(by, v_load(x + i), v_load(encoder + i)));
        }
        bias += slope;
      }
    }
    const Vec bias_all = v_set(bias);
    for (std::size_t i = 0; i < n; i += kLanes)
      v_store(centre_gradient + i, v_fma(bias_all, v_load(w_enc + i), v_load(centre_gradient + i)));
    if (args.encoder_gradient) {
      for (std::size_t i = 0; i < n; i += kLanes) {
        v_store(args.encoder_gradient + l * n + i, v_load(encoder + i));
        v_store(args.decoder_gradient + l * n + i, v_load(decoder + i));
      }
      args.bias_gradient[l] = bias;
      continue;
    }
    const Vec along = v_set(canonical_product(decoder, w_dec, n));
    for (std::size_t i = 0; i < n; i += kLanes)
      v_store(decoder + i, v_fnma(along, v_load(w_dec + i), v_load(decoder + i)));
    adam({w_dec, args.decoder.m + l * n, args.decoder.v + l * n}, decoder, n, args.adam);
    const float squares = canonical_product(w_dec, w_dec, n);
    if (squares > 0) {
      const Vec scale = v_div(v_set(1), v_sqrt(v_set(squares)));
      for (std::size_t i = 0; i < n; i += kLanes) v_store(w_dec + i, v_mul(v_load(w_dec + i), scale));
    }
    adam({w_enc, args.encoder.m + l * n, args.encoder.v + l * n}, encoder, n, args.adam);
    adam({args.bias.w + l, args.bias.m + l, args.bias.v + l}, &bias, 1, args.adam);
  }
}

}  // namespace
}  // namespace personascope
