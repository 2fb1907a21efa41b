// Activations over Vec; included by avx2.cc and avx512.cc after their vectors and math_lanes.h.

namespace personascope {
namespace {

constexpr float kSqrt2OverPi = 0.79788456080286536f;

// x / 2 (1 + tanh u) = x logistic(2u). Beyond |x| = 16 the logistic function is 0 or 1 in fp32; stopping
// there keeps u^3 finite.
inline Vec gelu_argument(Vec x) {
  const Vec c = v_set(2 * kSqrt2OverPi);
  return v_mul(v_mul(c, x), v_fma(v_mul(x, x), v_set(0.044715f), v_set(1.0f)));
}
inline Vec stop(Vec x) {
  return v_min(v_set(16.0f), v_max(v_set(-16.0f), x));
}

template <Activation K>
inline Vec value(Vec x) {
  if constexpr (K == Activation::relu) return v_max(v_zero(), x);
  if constexpr (K == Activation::gelu_tanh) return v_mul(x, v_logistic(gelu_argument(stop(x))).value);
  if constexpr (K == Activation::gelu_erf) return v_mul(x, v_normal(x).cdf);
  if constexpr (K == Activation::silu) return v_mul(x, v_logistic(x).value);
  return x;
}

struct Both {
  Vec value, derivative;
};

template <Activation K>
inline Both both(Vec x) {
  const Vec one = v_set(1.0f);
  if constexpr (K == Activation::relu)  // 0 x is 0, or NaN for NaN
    return {v_max(v_zero(), x), v_select(v_less(v_zero(), x), one, v_mul(v_zero(), x))};
  if constexpr (K == Activation::gelu_tanh) {
    const Vec s = stop(x);
    const Logistic l = v_logistic(gelu_argument(s));
    const Vec inner = v_mul(v_set(2 * kSqrt2OverPi), v_fma(v_mul(s, s), v_set(3 * 0.044715f), one));
    return {v_mul(x, l.value), v_fma(v_mul(s, inner), l.slope, l.value)};
  }
  if constexpr (K == Activation::gelu_erf) {
    const Normal n = v_normal(x);
    // The density is 0 in fp32 long before |x| = 16; x pdf(x) must not meet an infinite x.
    return {v_mul(x, n.cdf), v_fma(stop(x), n.pdf, n.cdf)};
  }
  if constexpr (K == Activation::silu) {
    const Logistic l = v_logistic(x);
    return {v_mul(x, l.value), v_fma(x, l.slope, l.value)};
  }
  return {x, one};
}

template <Activation K>
struct Kernels {
  static void forward(const ActivationArgs& a, std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const float* x = a.x + r * a.x_stride;
      float* y = a.y + r * a.y_stride;
      std::size_t i = 0;
      for (; i + kLanes <= a.width; i += kLanes) v_store(y + i, value<K>(v_load(x + i)));
      if (i < a.width) {
        const Mask m = v_first(a.width - i);
        v_store(y + i, value<K>(v_load(x + i, m)), m);
      }
    }
  }

  static void backward(const ActivationBackwardArgs& a, std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const float* x = a.x + r * a.x_stride;
      const float* dy = a.dy + r * a.dy_stride;
      float* dx = a.dx + r * a.dx_stride;
      std::size_t i = 0;
      for (; i + kLanes <= a.width; i += kLanes)
        v_store(dx + i, v_mul(v_load(dy + i), both<K>(v_load(x + i)).derivative));
      if (i < a.width) {
        const Mask m = v_first(a.width - i);
        v_store(dx + i, v_mul(v_load(dy + i, m), both<K>(v_load(x + i, m)).derivative), m);
      }
    }
  }

  static void gated_forward(const GatedArgs& a, std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const float* gate = a.gate + r * a.gate_stride;
      const float* up = a.up + r * a.up_stride;
      float* y = a.y + r * a.y_stride;
      std::size_t i = 0;
      for (; i + kLanes <= a.width; i += kLanes)
        v_store(y + i, v_mul(value<K>(v_load(gate + i)), v_load(up + i)));
      if (i < a.width) {
        const Mask m = v_first(a.width - i);
        v_store(y + i, v_mul(value<K>(v_load(gate + i, m)), v_load(up + i, m)), m);
      }
    }
  }

  static void gated_backward(const GatedBackwardArgs& a, std::size_t begin, std::size_t end) {
    for (std::size_t r = begin; r < end; ++r) {
      const float* gate = a.gate + r * a.gate_stride;
      const float* up = a.up + r * a.up_stride;
      const float* dy = a.dy + r * a.dy_stride;
      float* dgate = a.dgate + r * a.dgate_stride;
      float* dup = a.dup + r * a.dup_stride;
      for (std::size_t i = 0; i < a.width; i += kLanes) {
        const Mask m = v_first(a.width - i < kLanes ? a.width - i : kLanes);
        const Both g = both<K>(v_load(gate + i, m));
        const Vec u = v_load(up + i, m), d = v_load(dy + i, m);
        v_store(dgate + i, v_mul(v_mul(d, u), g.derivative), m);
        v_store(dup + i, v_mul(d, g.value), m);
      }
    }
  }
};

#define PERSONASCOPE_BY_KIND(FUNCTION, ARGS)                         \
  void FUNCTION(const ARGS& a, std::size_t begin, std::size_t end) { \
    switch (a.kind) {                                                \
      case Activation::none:                                         \
        Kernels<Activation::none>::FUNCTION(a, begin, end);          \
        break;                                                       \
      case Activation::relu:                                         \
        Kernels<Activation::relu>::FUNCTION(a, begin, end);          \
        break;                                                       \
      case Activation::gelu_tanh:                                    \
        Kernels<Activation::gelu_tanh>::FUNCTION(a, begin, end);     \
        break;                                                       \
      case Activation::gelu_erf:                                     \
        Kernels<Activation::gelu_erf>::FUNCTION(a, begin, end);      \
        break;                                                       \
      case Activation::silu:                                         \
        Kernels<Activation::silu>::FUNCTION(a, begin, end);          \
        break;                                                       \
    }                                                                \
  }
PERSONASCOPE_BY_KIND(forward, ActivationArgs)
PERSONASCOPE_BY_KIND(backward, ActivationBackwardArgs)
PERSONASCOPE_BY_KIND(gated_forward, GatedArgs)
PERSONASCOPE_BY_KIND(gated_backward, GatedBackwardArgs)
#undef PERSONASCOPE_BY_KIND

}  // namespace
}  // namespace personascope
