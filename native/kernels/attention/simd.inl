// Attention on the tiles of the matrix product. The including file has chosen the vectors and defined kGemm.
//
// Scores are made transposed, [keys, 16 queries]: then the softmax runs down the lanes without horizontal
// sums, the probabilities are the left operand of the product with the values as they lie, and the causal
// mask is one comparison a row. With one query a sequence (decoding) they are made as rows instead.
//
// Each score is a chain over head_dim and each output a chain over the keys; the exponentials are summed in
// four chains over the keys j = 0 ... 3 modulo 4. So a query has the same bits decoded with a cache as in a
// prefill, whatever the number of queries beside it.

namespace personascope {
namespace {

constexpr std::size_t kGroup = 16;               // queries side by side
constexpr std::size_t kParts = kGroup / kLanes;  // vectors of a group
constexpr std::size_t kBlockRows = 112;  // queries whose probabilities the backward pass holds at once

inline std::size_t up16(std::size_t n) {
  return (n + 15) / 16 * 16;
}
inline std::size_t at_most(std::size_t a, std::size_t b) {
  return a < b ? a : b;
}
inline Mask lanes(std::size_t left) {
  return v_first(left < kLanes ? left : kLanes);
}

void zero_row(float* row, std::size_t n) {
  for (std::size_t i = 0; i < n; i += kLanes) v_store(row + i, v_zero(), lanes(n - i));
}

// Keys, values or queries of one head: row t at data + t * step.
struct Rows {
  const float* data;
  std::size_t step;
};

// B of a product: panels of 16 columns.
struct Panels {
  const float* data;
  std::size_t stride, step;
};

// C[rows, n] (+)= alpha A B, rows <= kGemm.max_rows; k in blocks so that a strip of B stays in L1.
inline void product(std::size_t rows, std::size_t n, std::size_t k, const float* a, std::size_t a_step,
                    Panels b, float* c, std::size_t ldc, float alpha, bool accumulate) {
  for (std::size_t p = 0; p < k; p += kGemmKBlock)
    kGemm.tile(rows, n, at_most(kGemmKBlock, k - p), a + p * a_step, a_step, b.data + p * b.step, b.stride,
               b.step, c, ldc, alpha, nullptr, accumulate || p > 0);
}

// C[rows, n] = A B for any number of rows, A as [k, a_step]; tiles of nearly equal height.
inline void tall_product(std::size_t rows, std::size_t n, std::size_t k, const float* a, std::size_t a_step,
                         Panels b, float* c, std::size_t ldc) {
  const std::size_t tiles = (rows + kGemm.max_rows - 1) / kGemm.max_rows, height = (rows + tiles - 1) / tiles;
  for (std::size_t i = 0; i < rows; i += height)
    product(at_most(height, rows - i), n, k, a + i, a_step, b, c + i * ldc, ldc, 1, false);
}

// scores[key, 0 .. 15] (rows `ld` apart) = alpha x[key] . query for the first `keys` of the `packed` rows of
// x that pack_a put in tiles of max_rows; `panel` is the transposed group of queries [d, 16].
inline void transposed_scores(std::size_t keys, std::size_t packed, std::size_t d, const float* x,
                              const float* panel, float alpha, float* scores, std::size_t ld) {
  for (std::size_t j = 0; j < keys; j += kGemm.max_rows)
    product(at_most(kGemm.max_rows, keys - j), kGroup, d, x + j * d, at_most(kGemm.max_rows, packed - j),
            {panel, 0, kGroup}, scores + j * ld, ld, alpha, false);
}

// How many keys each query of a group sees.
struct Counts {
  alignas(64) float of[kGroup];  // whole numbers; 0 behind the last query
  std::size_t least, most;       // of the queries that exist
};

inline Counts count_keys(const AttentionShape& s, const Lengths& lengths, std::size_t t,
                         std::size_t queries) {
  Counts counts;
  counts.least = s.k_len;
  counts.most = 0;
  for (std::size_t r = 0; r < kGroup; ++r) {
    const std::size_t count = r < queries ? visible_keys(s, lengths, t + r) : 0;
    counts.of[r] = static_cast<float>(count);
    if (count > counts.most) counts.most = count;
    if (count < counts.least) counts.least = count;
  }
  if (queries < kGroup) counts.least = 0;
  return counts;
}

// scores [most, 16] become probabilities down each lane, zeros where the query does not see the key. lse[16]
// gets the log of the sum of exponentials, -inf where nothing is seen.
void softmax_lanes(float* scores, const Counts& counts, float* lse) {
  alignas(64) float sums[kGroup], maxima[kGroup];
  const float infinity = __builtin_inff();
  for (std::size_t part = 0; part < kParts; ++part) {
    float* column = scores + part * kLanes;
    const Vec count = v_load(counts.of + part * kLanes);
    Vec max = v_set(-infinity);
    std::size_t j = 0;
    for (; j < counts.least; ++j) max = v_max(v_load(column + j * kGroup), max);
    for (; j < counts.most; ++j) {
      const Mask seen = v_less(v_set(static_cast<float>(j)), count);
      max = v_max(v_select(seen, v_load(column + j * kGroup), max), max);
    }
    Vec sum[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
    for (j = 0; j < counts.most; ++j) {
      const Vec e = v_exp(v_sub(v_load(column + j * kGroup), max));
      const Vec seen = v_select(v_less(v_set(static_cast<float>(j)), count), e, v_zero());
      v_store(column + j * kGroup, seen);
      sum[j % 4] = v_add(sum[j % 4], seen);
    }
    const Vec total = v_add(v_add(sum[0], sum[1]), v_add(sum[2], sum[3]));
    const Vec scale = v_select(v_less(v_zero(), count), v_div(v_set(1.0f), total), v_zero());
    for (j = 0; j < counts.most; ++j) v_store(column + j * kGroup, v_mul(v_load(column + j * kGroup), scale));
    v_store(sums + part * kLanes, total);
    v_store(maxima + part * kLanes, max);
  }
  if (!lse) return;
  for (std::size_t r = 0; r < kGroup; ++r)
    lse[r] = counts.of[r] > 0 ? maxima[r] + __builtin_logf(sums[r]) : -infinity;
}

// The same for one query whose scores lie in a row. Returns the log of the sum of exponentials if wanted.
float softmax_row(float* row, std::size_t count, bool want_lse) {
  Vec max_lanes = v_set(row[0]);
  for (std::size_t j = 0; j < count; j += kLanes) {
    const Mask m = lanes(count - j);
    max_lanes = v_max(v_select(m, v_load(row + j, m), max_lanes), max_lanes);
  }
  const Vec max = v_set(v_max_lane(max_lanes));
  std::size_t j = 0;
  for (; j + kLanes <= count; j += kLanes) v_store(row + j, v_exp(v_sub(v_load(row + j), max)));
  if (j < count) v_store(row + j, v_exp(v_sub(v_load(row + j, lanes(count - j)), max)), lanes(count - j));
  float sum[4] = {0, 0, 0, 0};
  for (j = 0; j < count; ++j) sum[j % 4] += row[j];
  const float total = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  const Vec scale = v_set(1.0f / total);
  for (j = 0; j + kLanes <= count; j += kLanes) v_store(row + j, v_mul(v_load(row + j), scale));
  for (const float last = 1.0f / total; j < count; ++j) row[j] *= last;
  return want_lse ? v_max_lane(max) + __builtin_logf(total) : 0;
}

// One query a sequence: the heads of a group are the rows of a tile.
void decode(const AttentionArgs& a, std::size_t begin, std::size_t end, float* scratch) {
  const AttentionShape& s = a.shape;
  const std::size_t d = s.head_dim, group = s.heads / s.kv_heads, stride = up16(s.k_len);
  float* k_panels = scratch;
  float* v_panels = k_panels + stride * d;
  float* scores = v_panels + s.k_len * up16(d);
  float* packed = scores + kGroup * stride;
  for (std::size_t item = begin; item < end; ++item) {
    const std::size_t b = item / s.kv_heads, g = item % s.kv_heads;
    const std::size_t row = s.kv_rows ? static_cast<std::size_t>(s.kv_rows[b]) : b;
    const std::size_t count = visible_keys(s, lengths_of(s, b), 0);
    const Rows keys = {a.k + row * a.k_strides.batch + g * a.k_strides.head, a.k_strides.token};
    const Rows values = {a.v + row * a.v_strides.batch + g * a.v_strides.head, a.v_strides.token};
    Panels v = {values.data, kGemmPanel, values.step};
    const float* k = keys.data;
    if (count > 0 && !a.k_panels) {
      kGemm.pack_b(keys.data, keys.step, true, d, count, k_panels);
      k = k_panels;
    }
    if (count > 0 && d % kGemmPanel != 0) {
      kGemm.pack_b(values.data, values.step, false, count, d, v_panels);
      v = {v_panels, count * kGemmPanel, kGemmPanel};
    }
    for (std::size_t i = 0; i < group; i += kGemm.max_rows) {
      const std::size_t h = g * group + i, rows = at_most(kGemm.max_rows, group - i);
      const float* q = a.q + b * a.q_strides.batch + h * a.q_strides.head;
      float* out = a.out + b * a.out_strides.batch + h * a.out_strides.head;
      float* lse = a.lse ? a.lse + b * s.heads + h : nullptr;
      if (count == 0) {
        for (std::size_t r = 0; r < rows; ++r) {
          zero_row(out + r * a.out_strides.head, d);
          if (lse) lse[r] = -__builtin_inff();
        }
        continue;
      }
      const float* left = q;
      if (rows > 1) {
        kGemm.pack_a(q, a.q_strides.head, false, rows, d, rows, packed);
        left = packed;
      }
      product(rows, count, d, left, rows, {k, d * kGemmPanel, kGemmPanel}, scores, stride, s.scale, false);
      for (std::size_t r = 0; r < rows; ++r) {
        const float value = softmax_row(scores + r * stride, count, lse != nullptr);
        if (lse) lse[r] = value;
      }
      left = scores;
      if (rows > 1) {
        kGemm.pack_a(scores, stride, false, rows, count, rows, packed);
        left = packed;
      }
      product(rows, d, count, left, rows, v, out, a.out_strides.head, 1, false);
    }
  }
}

void forward(const AttentionArgs& a, std::size_t begin, std::size_t end, float* scratch) {
  const AttentionShape& s = a.shape;
  if (s.q_len == 1) {
    decode(a, begin, end, scratch);
    return;
  }
  const std::size_t d = s.head_dim, group = s.heads / s.kv_heads;
  float* packed_keys = scratch;
  float* v_panels = packed_keys + up16(s.k_len) * d;
  float* scores = v_panels + s.k_len * up16(d);
  float* q_panel = scores + kGroup * up16(s.k_len);
  for (std::size_t item = begin; item < end; ++item) {
    const std::size_t b = item / s.kv_heads, g = item % s.kv_heads;
    const std::size_t row = s.kv_rows ? static_cast<std::size_t>(s.kv_rows[b]) : b;
    const Lengths lengths = lengths_of(s, b);
    const Rows keys = {a.k + row * a.k_strides.batch + g * a.k_strides.head, a.k_strides.token};
    const Rows values = {a.v + row * a.v_strides.batch + g * a.v_strides.head, a.v_strides.token};
    // The last query sees most.
    const std::size_t most = lengths.queries ? visible_keys(s, lengths, lengths.queries - 1) : 0;
    if (most > 0) {
      kGemm.pack_a(keys.data, keys.step, false, most, d, kGemm.max_rows, packed_keys);
      kGemm.pack_b(values.data, values.step, false, most, d, v_panels);
    }
    for (std::size_t h = g * group; h < (g + 1) * group; ++h)
      for (std::size_t t = 0; t < s.q_len; t += kGroup) {
        const std::size_t queries = at_most(kGroup, s.q_len - t);
        const float* q = a.q + b * a.q_strides.batch + h * a.q_strides.head + t * a.q_strides.token;
        float* out = a.out + b * a.out_strides.batch + h * a.out_strides.head + t * a.out_strides.token;
        float* lse = a.lse ? a.lse + (b * s.heads + h) * s.q_len + t : nullptr;
        const Counts counts = count_keys(s, lengths, t, queries);
        if (counts.most == 0) {
          for (std::size_t r = 0; r < queries; ++r) {
            zero_row(out + r * a.out_strides.token, d);
            if (lse) lse[r] = -__builtin_inff();
          }
          continue;
        }
        // Queries behind the length are not read: their lanes are zeros, and so is what they give.
        const std::size_t valid = at_most(queries, lengths.queries - t);
        kGemm.pack_b(q, a.q_strides.token, true, d, valid, q_panel);
        transposed_scores(counts.most, most, d, packed_keys, q_panel, s.scale, scores, kGroup);
        alignas(64) float logs[kGroup];
        softmax_lanes(scores, counts, lse ? logs : nullptr);
        if (lse)
          for (std::size_t r = 0; r < queries; ++r) lse[r] = logs[r];
        tall_product(queries, d, counts.most, scores, kGroup, {v_panels, most * kGemmPanel, kGemmPanel}, out,
                     a.out_strides.token);
      }
  }
}

// p [keys, 16] scores become probabilities exp(p - lse), and dp [keys, 16] becomes dS = scale P (dp - delta);
// zeros where a query does not see the key. Rows `ld` apart.
void gradient_lanes(float* p, float* dp, std::size_t ld, const Counts& counts, const float* lse,
                    const float* delta, float scale) {
  const Vec factor = v_set(scale);
  for (std::size_t part = 0; part < kParts; ++part) {
    const std::size_t lane = part * kLanes;
    const Vec count = v_load(counts.of + lane), shift = v_load(lse + lane), centre = v_load(delta + lane);
    for (std::size_t j = 0; j < counts.most; ++j) {
      const Mask seen = v_less(v_set(static_cast<float>(j)), count);
      float* at = p + j * ld + lane;
      float* d_at = dp + j * ld + lane;
      const Vec e = v_select(seen, v_exp(v_sub(v_load(at), shift)), v_zero());
      const Vec ds = v_mul(v_mul(factor, e), v_sub(v_load(d_at), centre));
      v_store(at, e);
      v_store(d_at, v_select(seen, ds, v_zero()));
    }
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
  const std::size_t d = s.head_dim, group = s.heads / s.kv_heads, wide = up16(d), keys_up = up16(s.k_len);
  const std::size_t block_rows = at_most(kBlockRows, up16(s.q_len));
  float* packed_keys = scratch;                      // tiles [d][max_rows]
  float* packed_values = packed_keys + keys_up * d;  // tiles [d][max_rows]
  float* k_panels = packed_values + keys_up * d;     // [keys][d]
  float* q_panels = k_panels + keys_up * wide;       // of a block [block][d]
  float* dout_panels = q_panels + block_rows * wide;
  float* p = dout_panels + block_rows * wide;  // [keys, block_rows]
  float* ds = p + keys_up * block_rows;        // [keys, block_rows]
  float* panel = ds + keys_up * block_rows;    // [d][16]
  float* packed = panel + kGroup * d;          // [block_rows][max_rows]
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
    if (most > 0) {
      kGemm.pack_a(keys.data, keys.step, false, most, d, kGemm.max_rows, packed_keys);
      kGemm.pack_a(values.data, values.step, false, most, d, kGemm.max_rows, packed_values);
      kGemm.pack_b(keys.data, keys.step, false, most, d, k_panels);
    }
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
        const std::size_t block_keys = visible_keys(s, lengths, t0 + block - 1);
        for (std::size_t i = 0; i < block; i += kGroup) {
          const std::size_t t = t0 + i, queries = at_most(kGroup, block - i);
          const Counts counts = count_keys(s, lengths, t, queries);
          float* p_group = p + i;
          float* ds_group = ds + i;
          if (counts.most > 0) {
            alignas(64) float shift[kGroup] = {}, delta[kGroup] = {};
            for (std::size_t r = 0; r < queries; ++r) {
              if (counts.of[r] == 0) continue;
              shift[r] = lse[t + r];
              delta[r] = dot_row(dout + (t + r) * dout_step, out + (t + r) * a.out_strides.token, d);
            }
            kGemm.pack_b(q + t * q_step, q_step, true, d, queries, panel);
            transposed_scores(counts.most, most, d, packed_keys, panel, s.scale, p_group, block_rows);
            kGemm.pack_b(dout + t * dout_step, dout_step, true, d, queries, panel);
            transposed_scores(counts.most, most, d, packed_values, panel, 1, ds_group, block_rows);
            gradient_lanes(p_group, ds_group, block_rows, counts, shift, delta, s.scale);
            tall_product(queries, d, counts.most, ds_group, block_rows,
                         {k_panels, most * kGemmPanel, kGemmPanel}, dq + t * a.dq_strides.token,
                         a.dq_strides.token);
          } else {
            for (std::size_t r = 0; r < queries; ++r) zero_row(dq + (t + r) * a.dq_strides.token, d);
          }
          // The products below take keys in tiles: those of the last tile that this group does not see are
          // zeros.
          const std::size_t tiles = (counts.most + kGemm.max_rows - 1) / kGemm.max_rows;
          for (std::size_t j = counts.most; j < at_most(tiles * kGemm.max_rows, block_keys); ++j) {
            zero_row(p_group + j * block_rows, kGroup);
            zero_row(ds_group + j * block_rows, kGroup);
          }
        }
        // dK += dS^T Q and dV += P^T dO, a tile of keys at a time over the groups of queries that see one of
        // them.
        kGemm.pack_b(q + t0 * q_step, q_step, false, block, d, q_panels);
        kGemm.pack_b(dout + t0 * dout_step, dout_step, false, block, d, dout_panels);
        std::size_t from = 0;
        for (std::size_t j = 0; j < block_keys; j += kGemm.max_rows) {
          const std::size_t rows = at_most(kGemm.max_rows, block_keys - j);
          while (visible_keys(s, lengths, t0 + at_most(from + kGroup, block) - 1) <= j) from += kGroup;
          // Whole groups are packed; their lanes behind the block are zeros, and the product leaves them out.
          const std::size_t depth = block - from;
          kGemm.pack_a(ds + j * block_rows + from, block_rows, false, rows, up16(depth), rows, packed);
          product(rows, d, depth, packed, rows,
                  {q_panels + from * kGemmPanel, block * kGemmPanel, kGemmPanel}, dk + j * a.dk_strides.token,
                  a.dk_strides.token, 1, true);
          kGemm.pack_a(p + j * block_rows + from, block_rows, false, rows, up16(depth), rows, packed);
          product(rows, d, depth, packed, rows,
                  {dout_panels + from * kGemmPanel, block * kGemmPanel, kGemmPanel},
                  dv + j * a.dv_strides.token, a.dv_strides.token, 1, true);
        }
      }
    }
  }
}

}  // namespace
}  // namespace personascope
