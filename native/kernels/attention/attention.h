// Softmax attention, fp32, with grouped queries, causal masking and a length per sequence: one contract for
// training and prefill (q_len queries at positions 0, 1, ...) and for decoding with a KV cache (q_len = 1,
// the query's position given).
//
//   out[b, t, h] = sum_j p_j v[b, j, g],  p = softmax_j(scale * q[b, t, h] . k[b, j, g]),  g = h / (heads /
//   kv_heads)
//
// over the keys j < k_lengths[b] and, if causal, j <= q_offsets[b] + t. Query rows t >= q_lengths[b], and
// rows that see no key, give zeros (log-sum-exp -inf) and have no gradient. What lies behind the lengths is
// not read.
//
// The softmax subtracts the maximum. No [q_len, k_len] matrix outlives one (sequence, head). Nothing depends
// on the number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"

namespace personascope {

// Where the vector (sequence b, token t, head h) of a tensor starts: data + b*batch + t*token + h*head; its
// head_dim values are contiguous. Strides in elements; q, k and v may be columns of one [tokens, 3 d] matrix.
struct HeadStrides {
  std::size_t batch = 0, token = 0, head = 0;
};

struct AttentionShape {
  std::size_t batch = 0, heads = 0, kv_heads = 0, head_dim = 0;
  std::size_t q_len = 0, k_len = 0;         // rows per sequence, valid or not
  const std::int32_t* q_lengths = nullptr;  // [batch], valid queries; null: q_len
  const std::int32_t* k_lengths = nullptr;  // [batch], valid keys; null: k_len
  const std::int32_t* q_offsets = nullptr;  // [batch], position of query 0 among the keys; null: 0
  // Row b reads keys and values of cache row kv_rows[b] (beams or samples that share one prompt); null: b.
  // Forward only.
  const std::int32_t* kv_rows = nullptr;
  bool causal = true;
  float scale = 1.0f;  // usually 1 / sqrt(head_dim)
};

constexpr std::size_t panel_key_offset(std::size_t head_dim, std::size_t key) {
  return key / 16 * 16 * head_dim + key % 16;
}

struct AttentionArgs {
  AttentionShape shape;
  const float* q = nullptr;  // [batch, q_len, heads, head_dim]
  HeadStrides q_strides;
  const float* k = nullptr;  // [batch, k_len, kv_heads, head_dim]
  HeadStrides k_strides;
  // A key cache in the order in which decoding reads it, for q_len = 1 only: each head of a sequence is
  // panels of 16 keys [ceil(k_len / 16)][head_dim][16], value i of key j at panel_key_offset(head_dim, j) +
  // 16 i from where the head starts; k_strides.token is not used. Lanes behind the length may hold anything.
  bool k_panels = false;
  const float* v = nullptr;  // [batch, k_len, kv_heads, head_dim]
  HeadStrides v_strides;
  float* out = nullptr;  // [batch, q_len, heads, head_dim]
  HeadStrides out_strides;
  float* lse = nullptr;  // [batch, heads, q_len] natural log of the sum of exp, contiguous; null: not wanted
};
void attention_forward(const AttentionArgs& args);

struct AttentionBackwardArgs {
  AttentionShape shape;
  const float* q = nullptr;
  HeadStrides q_strides;
  const float* k = nullptr;
  HeadStrides k_strides;
  const float* v = nullptr;
  HeadStrides v_strides;
  const float* out = nullptr;  // of the forward pass
  HeadStrides out_strides;
  const float* lse = nullptr;   // of the forward pass
  const float* dout = nullptr;  // [batch, q_len, heads, head_dim]
  HeadStrides dout_strides;
  float* dq = nullptr;  // written, zeros for rows that are not valid; overlap no input
  HeadStrides dq_strides;
  float* dk = nullptr;  // written, summed over the query heads of a group in order
  HeadStrides dk_strides;
  float* dv = nullptr;
  HeadStrides dv_strides;
};
void attention_backward(const AttentionBackwardArgs& args);

// The variants. They work on items [begin, end) of batch * kv_heads; scratch has as many floats as the
// functions below say, aligned to 64 bytes.
struct AttentionKernels {
  void (*forward)(const AttentionArgs&, std::size_t begin, std::size_t end, float* scratch);
  void (*backward)(const AttentionBackwardArgs&, std::size_t begin, std::size_t end, float* scratch);
};
std::size_t attention_forward_scratch(const AttentionShape& shape);
std::size_t attention_backward_scratch(const AttentionShape& shape);
const Variants<AttentionKernels>& attention_variants();

}  // namespace personascope
