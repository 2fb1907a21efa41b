// Attention on the tiles of the matrix product: scores, softmax and values of a few query rows at a time,
// keys and values packed once a head. The including file has chosen the vectors and defined kGemm.
//
// Each score is a chain over head_dim and each output a chain over the keys in order, whatever the number of
// query rows beside it: a query decoded with a cache has the same bits as in a prefill of the whole sequence.

namespace personascope {
namespace {

constexpr std::size_t kBlockRows = 112;  // query rows whose probabilities the backward pass holds at once

inline std::size_t up16(std::size_t n) {
  return (n + 15) / 16 * 16;
}
inline std::size_t at_most(std::size_t a, std::size_t b) {
  return a < b ? a : b;
}
inline Mask lanes(std::size_t left) {
  return v_first(left < kLanes ? left : kLanes);
}

// row[0, count) becomes its softmax, row[count, end) zeros. Returns the log of the sum of exponentials.
float softmax_row(float* row, std::size_t count, std::size_t end) {
  Vec max_lanes = v_set(row[0]);
  for (std::size_t j = 0; j < count; j += kLanes) {
    const Mask m = lanes(count - j);
    max_lanes = v_max(v_select(m, v_load(row + j, m), max_lanes), max_lanes);
  }
  const float max = v_max_lane(max_lanes);
  Vec sums = v_zero();
  for (std::size_t j = 0; j < count; j += kLanes) {
    const Mask m = lanes(count - j);
    const Vec e = v_select(m, v_exp(v_sub(v_load(row + j, m), v_set(max))), v_zero());
    sums = v_add(sums, e);
    v_store(row + j, e, m);
  }
  const float sum = v_sum(sums);
  const Vec scale = v_set(1.0f / sum);
  for (std::size_t j = 0; j < count; j += kLanes) {
    const Mask m = lanes(count - j);
    v_store(row + j, v_mul(v_load(row + j, m), scale), m);
  }
  for (std::size_t j = count; j < end; j += kLanes) v_store(row + j, v_zero(), lanes(end - j));
  return max + __builtin_logf(sum);
}

void zero_row(float* row, std::size_t n) {
  for (std::size_t i = 0; i < n; i += kLanes) v_store(row + i, v_zero(), lanes(n - i));
}

// Keys, values or queries of one head: row t at data + t * step.
struct Rows {
  const float* data;
  std::size_t step;
};

// C[rows, n] (+)= alpha A[rows, k] B, A packed in one tile; k in blocks so that a strip of B stays in L1.
void product(std::size_t rows, std::size_t n, std::size_t k, const float* a, const float* panels,
             std::size_t panel_stride, std::size_t panel_step, float* c, std::size_t ldc, float alpha,
             bool accumulate) {
  for (std::size_t p = 0; p < k; p += kGemmKBlock) {
    const std::size_t depth = at_most(kGemmKBlock, k - p);
    kGemm.tile(rows, n, depth, a + p * rows, panels + p * panel_step, panel_stride, panel_step, c, ldc, alpha,
               nullptr, accumulate || p > 0);
  }
}

void forward(const AttentionArgs& a, std::size_t begin, std::size_t end, float* scratch) {
  const AttentionShape& s = a.shape;
  const std::size_t d = s.head_dim, group = s.heads / s.kv_heads;
  // With one query a sequence the heads of a group are the rows of a tile.
  const bool decode = s.q_len == 1;
  const std::size_t lines = decode ? group : s.q_len, passes = decode ? 1 : group;
  const std::size_t stride = up16(s.k_len);
  float* k_panels = scratch;
  float* v_panels = k_panels + stride * d;
  float* scores = v_panels + s.k_len * up16(d);
  float* packed = scores + 16 * stride;
  for (std::size_t item = begin; item < end; ++item) {
    const std::size_t b = item / s.kv_heads, g = item % s.kv_heads;
    const std::size_t row = s.kv_rows ? static_cast<std::size_t>(s.kv_rows[b]) : b;
    const Lengths lengths = lengths_of(s, b);
    const Rows keys = {a.k + row * a.k_strides.batch + g * a.k_strides.head, a.k_strides.token};
    const Rows values = {a.v + row * a.v_strides.batch + g * a.v_strides.head, a.v_strides.token};
    std::size_t most = 0;
    for (std::size_t t = 0; t < lengths.queries; ++t) {
      const std::size_t count = visible_keys(s, lengths, t);
      most = count > most ? count : most;
    }
    kGemm.pack_b(keys.data, keys.step, true, d, most, k_panels);
    const bool in_place = decode && d % kGemmPanel == 0;
    if (!in_place) kGemm.pack_b(values.data, values.step, false, most, d, v_panels);
    for (std::size_t pass = 0; pass < passes; ++pass) {
      const std::size_t h = g * group + pass;
      const float* q = a.q + b * a.q_strides.batch + h * a.q_strides.head;
      float* out = a.out + b * a.out_strides.batch + h * a.out_strides.head;
      const std::size_t q_step = decode ? a.q_strides.head : a.q_strides.token;
      const std::size_t out_step = decode ? a.out_strides.head : a.out_strides.token;
      for (std::size_t i = 0; i < lines; i += kGemm.max_rows) {
        const std::size_t rows = at_most(kGemm.max_rows, lines - i);
        std::size_t counts[16], widest = 0;
        for (std::size_t r = 0; r < rows; ++r) {
          counts[r] = visible_keys(s, lengths, decode ? 0 : i + r);
          widest = counts[r] > widest ? counts[r] : widest;
        }
        if (widest > 0) {
          kGemm.pack_a(q + i * q_step, q_step, false, rows, d, rows, packed);
          product(rows, widest, d, packed, k_panels, d * kGemmPanel, kGemmPanel, scores, stride, s.scale,
                  false);
        }
        for (std::size_t r = 0; r < rows; ++r) {
          float lse = -__builtin_inff();
          if (counts[r] > 0)
            lse = softmax_row(scores + r * stride, counts[r], widest);
          else
            zero_row(scores + r * stride, widest);
          // [batch, heads, q_len]: with one query the heads follow each other, else the queries do.
          if (a.lse) a.lse[(b * s.heads + h) * s.q_len + i + r] = lse;
        }
        if (widest == 0) {
          for (std::size_t r = 0; r < rows; ++r) zero_row(out + (i + r) * out_step, d);
          continue;
        }
        kGemm.pack_a(scores, stride, false, rows, widest, rows, packed);
        if (in_place)
          product(rows, d, widest, packed, values.data, kGemmPanel, values.step, out + i * out_step, out_step,
                  1, false);
        else
          product(rows, d, widest, packed, v_panels, most * kGemmPanel, kGemmPanel, out + i * out_step,
                  out_step, 1, false);
      }
    }
  }
}

// P = exp(scores - lse), zeros from `count` on; then, with dp = dout . v,  dS = scale P (dp - delta).
void probabilities_row(float* p, float* dp, std::size_t count, std::size_t end, float lse, float delta,
                       float scale) {
  const Vec shift = v_set(lse), centre = v_set(delta), factor = v_set(scale);
  for (std::size_t j = 0; j < end; j += kLanes) {
    const Mask whole = lanes(end - j), m = j < count ? lanes(count - j) : v_first(0);
    const Vec e = v_select(m, v_exp(v_sub(v_load(p + j, whole), shift)), v_zero());
    v_store(p + j, e, whole);
    const Vec ds = v_mul(v_mul(factor, e), v_sub(v_load(dp + j, whole), centre));
    v_store(dp + j, v_select(m, ds, v_zero()), whole);
  }
}

float dot_row(const float* x, const float* y, std::size_t n) {
  Vec sum = v_zero();
  for (std::size_t i = 0; i < n; i += kLanes) {
    const Mask m = lanes(n - i);
    sum = v_fma(v_load(x + i, m), v_load(y + i, m), sum);
  }
  return v_sum(sum);
}

void backward(const AttentionBackwardArgs& a, std::size_t begin, std::size_t end, float* scratch) {
  const AttentionShape& s = a.shape;
  const std::size_t d = s.head_dim, group = s.heads / s.kv_heads, wide = up16(d);
  const std::size_t stride = up16(s.k_len), block_rows = at_most(kBlockRows, s.q_len);
  float* kt_panels = scratch;                   // k transposed [d][keys]
  float* vt_panels = kt_panels + stride * d;    // v transposed
  float* k_panels = vt_panels + stride * d;     // k as it is [keys][d]
  float* q_panels = k_panels + s.k_len * wide;  // of a block
  float* dout_panels = q_panels + block_rows * wide;
  float* p = dout_panels + block_rows * wide;  // [block_rows, stride]
  float* ds = p + block_rows * stride;
  float* packed = ds + block_rows * stride;
  for (std::size_t item = begin; item < end; ++item) {
    const std::size_t b = item / s.kv_heads, g = item % s.kv_heads;
    const Lengths lengths = lengths_of(s, b);
    const Rows keys = {a.k + b * a.k_strides.batch + g * a.k_strides.head, a.k_strides.token};
    const Rows values = {a.v + b * a.v_strides.batch + g * a.v_strides.head, a.v_strides.token};
    float* dk = a.dk + b * a.dk_strides.batch + g * a.dk_strides.head;
    float* dv = a.dv + b * a.dv_strides.batch + g * a.dv_strides.head;
    for (std::size_t j = 0; j < s.k_len; ++j) {
      zero_row(dk + j * a.dk_strides.token, d);
      zero_row(dv + j * a.dv_strides.token, d);
    }
    const std::size_t most = lengths.queries ? visible_keys(s, lengths, lengths.queries - 1) : 0;
    kGemm.pack_b(keys.data, keys.step, true, d, most, kt_panels);
    kGemm.pack_b(values.data, values.step, true, d, most, vt_panels);
    kGemm.pack_b(keys.data, keys.step, false, most, d, k_panels);
    for (std::size_t h = g * group; h < (g + 1) * group; ++h) {
      const float* q = a.q + b * a.q_strides.batch + h * a.q_strides.head;
      const float* out = a.out + b * a.out_strides.batch + h * a.out_strides.head;
      const float* dout = a.dout + b * a.dout_strides.batch + h * a.dout_strides.head;
      float* dq = a.dq + b * a.dq_strides.batch + h * a.dq_strides.head;
      const float* lse = a.lse + (b * s.heads + h) * s.q_len;
      const std::size_t q_step = a.q_strides.token, dout_step = a.dout_strides.token;
      for (std::size_t t = most ? lengths.queries : 0; t < s.q_len; ++t)
        zero_row(dq + t * a.dq_strides.token, d);
      if (most == 0) continue;
      for (std::size_t t0 = 0; t0 < lengths.queries; t0 += block_rows) {
        const std::size_t block = at_most(block_rows, lengths.queries - t0);
        const std::size_t block_keys = visible_keys(s, lengths, t0 + block - 1);  // grows with t
        for (std::size_t i = 0; i < block; i += kGemm.max_rows) {
          const std::size_t rows = at_most(kGemm.max_rows, block - i), t = t0 + i;
          const std::size_t widest = visible_keys(s, lengths, t + rows - 1);
          float* p_rows = p + i * stride;
          float* ds_rows = ds + i * stride;
          if (widest > 0) {
            kGemm.pack_a(q + t * q_step, q_step, false, rows, d, rows, packed);
            product(rows, widest, d, packed, kt_panels, d * kGemmPanel, kGemmPanel, p_rows, stride, s.scale,
                    false);
            kGemm.pack_a(dout + t * dout_step, dout_step, false, rows, d, rows, packed);
            product(rows, widest, d, packed, vt_panels, d * kGemmPanel, kGemmPanel, ds_rows, stride, 1,
                    false);
          }
          for (std::size_t r = 0; r < rows; ++r) {
            const std::size_t count = visible_keys(s, lengths, t + r);
            const float delta = dot_row(dout + (t + r) * dout_step, out + (t + r) * a.out_strides.token, d);
            probabilities_row(p_rows + r * stride, ds_rows + r * stride, count, widest, lse[t + r], delta,
                              s.scale);
            zero_row(p_rows + r * stride + widest, block_keys - widest);
            zero_row(ds_rows + r * stride + widest, block_keys - widest);
          }
          if (widest == 0) {
            for (std::size_t r = 0; r < rows; ++r) zero_row(dq + (t + r) * a.dq_strides.token, d);
            continue;
          }
          kGemm.pack_a(ds_rows, stride, false, rows, widest, rows, packed);
          product(rows, d, widest, packed, k_panels, most * kGemmPanel, kGemmPanel,
                  dq + t * a.dq_strides.token, a.dq_strides.token, 1, false);
        }
        // dK += dS^T Q and dV += P^T dO, a few keys at a time over the queries that see them.
        kGemm.pack_b(q + t0 * q_step, q_step, false, block, d, q_panels);
        kGemm.pack_b(dout + t0 * dout_step, dout_step, false, block, d, dout_panels);
        std::size_t from = 0;
        for (std::size_t j = 0; j < block_keys; j += kGemm.max_rows) {
          const std::size_t rows = at_most(kGemm.max_rows, block_keys - j);
          while (visible_keys(s, lengths, t0 + from) <= j) ++from;
          const std::size_t depth = block - from;
          kGemm.pack_a(ds + from * stride + j, stride, true, rows, depth, rows, packed);
          product(rows, d, depth, packed, q_panels + from * kGemmPanel, block * kGemmPanel, kGemmPanel,
                  dk + j * a.dk_strides.token, a.dk_strides.token, 1, true);
          kGemm.pack_a(p + from * stride + j, stride, true, rows, depth, rows, packed);
          product(rows, d, depth, packed, dout_panels + from * kGemmPanel, block * kGemmPanel, kGemmPanel,
                  dv + j * a.dv_strides.token, a.dv_strides.token, 1, true);
        }
      }
    }
  }
}

}  // namespace
}  // namespace personascope
