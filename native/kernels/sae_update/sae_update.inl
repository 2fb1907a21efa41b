// The body of the ISA variants of the SAE's training step.

namespace personascope {
namespace {

using namespace vec;

// n: a multiple of 16.
inline float canonical_product(const float* a, const float* b, std::size_t n) {
  Sum64 sums;
  std::size_t i = 0;
  for (; i + 64 <= n; i += 64)
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Sum64::kParts; ++p)
      sums.part[p] = fmadd(load(a + i + p * kLanes), load(b + i + p * kLanes), sums.part[p]);
#pragma GCC unroll 8
  for (std::size_t p = 0; p < Sum64::kParts; ++p)
    if (i + p * kLanes < n)
      sums.part[p] = fmadd(load(a + i + p * kLanes), load(b + i + p * kLanes), sums.part[p]);
  return sums.total();
}

inline F adam_part(F w, F g, F* m, F* v, const AdamStep& step) {
  *m = fmadd(set1(step.beta1), *m, mul(set1(1 - step.beta1), g));
  *v = fmadd(set1(step.beta2), *v, mul(mul(set1(1 - step.beta2), g), g));
  const F size = add(vec::sqrt(mul(*v, set1(step.correction2))), set1(step.epsilon));
  return sub(w, div(mul(set1(step.rate), mul(*m, set1(step.correction1))), size));
}

void adam(const Moments& p, const float* gradient, std::size_t n, const AdamStep& step) {
  for (std::size_t i = 0; i < n; i += kLanes) {
    const std::size_t count = n - i < kLanes ? n - i : kLanes;
    F m = load_n(p.m + i, count), v = load_n(p.v + i, count);
    const F w = adam_part(load_n(p.w + i, count), load_n(gradient + i, count), &m, &v, step);
    store_n(p.w + i, w, count);
    store_n(p.m + i, m, count);
    store_n(p.v + i, v, count);
  }
}

void update(const SaeUpdateArgs& args, std::size_t begin, std::size_t end, float* centre_gradient,
            float* scratch) {
  const std::size_t n = args.stride;
  for (std::size_t l = begin; l < end; ++l) {
    float *decoder = scratch, *encoder = scratch + n;
    float bias = 0;
    for (std::size_t i = 0; i < 2 * n; i += kLanes) store(scratch + i, zero());
    float *w_dec = args.decoder.w + l * n, *w_enc = args.encoder.w + l * n;
    for (std::size_t p = 0; p < args.part_count; ++p) {
      const LatentPairs& pairs = args.parts[p];
      for (std::size_t c = pairs.begin[l]; c < pairs.begin[l + 1]; ++c) {
        const float* gradient = pairs.gradient + pairs.token[c] * n;
        const float* x = args.x + pairs.token[c] * n;
        const float slope = canonical_product(w_dec, gradient, n);
        const F value = set1(pairs.value[c]), by = set1(slope);
        for (std::size_t i = 0; i < n; i += kLanes) {
          store(decoder + i, fmadd(value, load(gradient + i), load(decoder + i)));
          store(encoder + i, fmadd(by, load(x + i), load(encoder + i)));
        }
        bias += slope;
      }
    }
    const F bias_all = set1(bias);
    for (std::size_t i = 0; i < n; i += kLanes)
      store(centre_gradient + i, fmadd(bias_all, load(w_enc + i), load(centre_gradient + i)));
    if (args.encoder_gradient) {
      for (std::size_t i = 0; i < n; i += kLanes) {
        store(args.encoder_gradient + l * n + i, load(encoder + i));
        store(args.decoder_gradient + l * n + i, load(decoder + i));
      }
      args.bias_gradient[l] = bias;
      continue;
    }
    const F along = set1(canonical_product(decoder, w_dec, n));
    for (std::size_t i = 0; i < n; i += kLanes)
      store(decoder + i, fnmadd(along, load(w_dec + i), load(decoder + i)));
    adam({w_dec, args.decoder.m + l * n, args.decoder.v + l * n}, decoder, n, args.adam);
    const float squares = canonical_product(w_dec, w_dec, n);
    if (squares > 0) {
      const F scale = div(set1(1), vec::sqrt(set1(squares)));
      for (std::size_t i = 0; i < n; i += kLanes) store(w_dec + i, mul(load(w_dec + i), scale));
    }
    adam({w_enc, args.encoder.m + l * n, args.encoder.v + l * n}, encoder, n, args.adam);
    adam({args.bias.w + l, args.bias.m + l, args.bias.v + l}, &bias, 1, args.adam);
  }
}

}  // namespace
}  // namespace personascope
