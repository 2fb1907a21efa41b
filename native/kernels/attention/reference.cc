// Plain attention: one query after the other, sums in double.
#include <cmath>
#include <limits>

#include "native/kernels/attention/variants.h"
#include "native/kernels/attention/visible.h"

namespace personascope {

namespace {

// b's values `step` apart.
double dot(const float* a, const float* b, std::size_t n, std::size_t step = 1) {
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<double>(a[i]) * b[i * step];
  return sum;
}

void forward(const AttentionArgs& a, std::size_t begin, std::size_t end, float* scratch) {
  const AttentionShape& s = a.shape;
  const std::size_t d = s.head_dim;
  const std::size_t group = s.heads / s.kv_heads;
  for (std::size_t item = begin * group; item < end * group; ++item) {
    const std::size_t b = item / s.heads, h = item % s.heads, g = h / group;
    const std::size_t row = s.kv_rows ? static_cast<std::size_t>(s.kv_rows[b]) : b;
    const Lengths lengths = lengths_of(s, b);
    const float* k = a.k + row * a.k_strides.batch + g * a.k_strides.head;
    const float* v = a.v + row * a.v_strides.batch + g * a.v_strides.head;
    for (std::size_t t = 0; t < s.q_len; ++t) {
      const float* q = a.q + b * a.q_strides.batch + t * a.q_strides.token + h * a.q_strides.head;
      float* out = a.out + b * a.out_strides.batch + t * a.out_strides.token + h * a.out_strides.head;
      const std::size_t count = visible_keys(s, lengths, t);
      float max = -std::numeric_limits<float>::infinity();
      for (std::size_t j = 0; j < count; ++j) {
        const float score =
            static_cast<float>(a.k_panels ? s.scale * dot(q, k + panel_key_offset(d, j), d, 16)
                                          : s.scale * dot(q, k + j * a.k_strides.token, d));
        scratch[j] = score;
        if (scratch[j] > max) max = scratch[j];
      }
      double sum = 0;
      for (std::size_t j = 0; j < count; ++j) {
        scratch[j] = std::exp(scratch[j] - max);
        sum += scratch[j];
      }
      for (std::size_t i = 0; i < d; ++i) {
        double value = 0;
        for (std::size_t j = 0; j < count; ++j)
          value += static_cast<double>(scratch[j]) * v[j * a.v_strides.token + i];
        out[i] = count ? static_cast<float>(value / sum) : 0.0f;
      }
      if (a.lse)
        a.lse[item * s.q_len + t] =
            count ? max + static_cast<float>(std::log(sum)) : -std::numeric_limits<float>::infinity();
    }
  }
}

void backward(const AttentionBackwardArgs& a, std::size_t begin, std::size_t end, float* scratch) {
  (void)scratch;
  const AttentionShape& s = a.shape;
  const std::size_t d = s.head_dim, group = s.heads / s.kv_heads;
  for (std::size_t item = begin; item < end; ++item) {
    const std::size_t b = item / s.kv_heads, g = item % s.kv_heads;
    const Lengths lengths = lengths_of(s, b);
    const auto at = [&](auto* data, const HeadStrides& st, std::size_t t, std::size_t h) {
      return data + b * st.batch + t * st.token + h * st.head;
    };
    for (std::size_t j = 0; j < s.k_len; ++j)
      for (std::size_t i = 0; i < d; ++i) {
        at(a.dk, a.dk_strides, j, g)[i] = 0;
        at(a.dv, a.dv_strides, j, g)[i] = 0;
      }
    for (std::size_t h = g * group; h < (g + 1) * group; ++h)
      for (std::size_t t = 0; t < s.q_len; ++t) {
        const float* q = at(a.q, a.q_strides, t, h);
        const float* dout = at(a.dout, a.dout_strides, t, h);
        float* dq = at(a.dq, a.dq_strides, t, h);
        for (std::size_t i = 0; i < d; ++i) dq[i] = 0;
        const std::size_t count = visible_keys(s, lengths, t);
        if (count == 0) continue;
        const double delta = dot(dout, at(a.out, a.out_strides, t, h), d);
        const double lse = a.lse[(b * s.heads + h) * s.q_len + t];
        for (std::size_t j = 0; j < count; ++j) {
          const float* k = at(a.k, a.k_strides, j, g);
          const double p = std::exp(s.scale * dot(q, k, d) - lse);
          const double ds = s.scale * p * (dot(dout, at(a.v, a.v_strides, j, g), d) - delta);
          float* dk = at(a.dk, a.dk_strides, j, g);
          float* dv = at(a.dv, a.dv_strides, j, g);
          for (std::size_t i = 0; i < d; ++i) {
            dq[i] += static_cast<float>(ds * k[i]);
            dk[i] += static_cast<float>(ds * q[i]);
            dv[i] += static_cast<float>(p * dout[i]);
          }
        }
      }
  }
}

}  // namespace

const AttentionKernels attention_reference = {forward, backward};

}  // namespace personascope
