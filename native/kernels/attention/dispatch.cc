#include <algorithm>
#include <string>

#include "native/core/aligned.h"
#include "native/kernels/attention/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

namespace {

thread_local AlignedBuffer<float> t_scratch;

float* scratch(std::size_t floats) {
  if (t_scratch.size() < floats) t_scratch = AlignedBuffer<float>(floats + floats / 4);
  return t_scratch.data();
}

void check(const AttentionShape& s) {
  const auto bad = [](const std::string& what) { fail(ErrorCode::invalid_argument, "attention: " + what); };
  if (s.heads == 0 || s.kv_heads == 0 || s.heads % s.kv_heads != 0)
    bad("heads " + std::to_string(s.heads) + " is not a multiple of kv_heads " + std::to_string(s.kv_heads));
  if (s.head_dim == 0) bad("head_dim is 0");
  for (std::size_t b = 0; b < s.batch; ++b) {
    if (s.q_lengths && (s.q_lengths[b] < 0 || static_cast<std::size_t>(s.q_lengths[b]) > s.q_len))
      bad("query length of sequence " + std::to_string(b) + ": found " + std::to_string(s.q_lengths[b]) +
          ", expected 0 to " + std::to_string(s.q_len));
    if (s.k_lengths && (s.k_lengths[b] < 0 || static_cast<std::size_t>(s.k_lengths[b]) > s.k_len))
      bad("key length of sequence " + std::to_string(b) + ": found " + std::to_string(s.k_lengths[b]) +
          ", expected 0 to " + std::to_string(s.k_len));
    if (s.kv_rows && s.kv_rows[b] < 0)
      bad("cache row of sequence " + std::to_string(b) + ": found " + std::to_string(s.kv_rows[b]));
  }
}

}  // namespace

// Panels of keys and values, scores of 16 queries, packed rows (simd.inl).
std::size_t attention_forward_scratch(const AttentionShape& s) {
  const std::size_t keys = (s.k_len + 15) / 16 * 16, d = (s.head_dim + 15) / 16 * 16;
  return 2 * keys * d + 32 * keys + 16 * d + 64;
}

// Three forms of keys and values, two panels of a block of queries, probabilities and their gradients, packed
// rows.
std::size_t attention_backward_scratch(const AttentionShape& s) {
  const std::size_t keys = (s.k_len + 15) / 16 * 16, d = (s.head_dim + 15) / 16 * 16;
  const std::size_t block = std::min<std::size_t>(112, (s.q_len + 15) / 16 * 16);
  return 3 * keys * d + 2 * block * d + 2 * block * keys + 16 * (d + block) + 64;
}

const Variants<AttentionKernels>& attention_variants() {
  static const Variants<AttentionKernels> variants = {attention_reference, attention_avx2, attention_avx512};
  return variants;
}

void attention_forward(const AttentionArgs& args) {
  const AttentionShape& s = args.shape;
  check(s);
  if (args.k_panels && s.q_len != 1)
    fail(ErrorCode::invalid_argument,
         "attention: keys in panels are for one query a sequence, found " + std::to_string(s.q_len));
  const auto kernel = attention_variants().active().forward;
  const std::size_t floats = attention_forward_scratch(s);
  parallel_rows(s.batch * s.kv_heads, s.heads / s.kv_heads * s.q_len * s.k_len * s.head_dim / 8 + 64,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end, scratch(floats)); });
}

void attention_backward(const AttentionBackwardArgs& args) {
  const AttentionShape& s = args.shape;
  check(s);
  if (s.kv_rows) fail(ErrorCode::invalid_argument, "attention: kv_rows has no backward pass");
  const auto kernel = attention_variants().active().backward;
  const std::size_t floats = attention_backward_scratch(s);
  parallel_rows(s.batch * s.kv_heads, s.heads / s.kv_heads * s.q_len * s.k_len * s.head_dim / 4 + 64,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end, scratch(floats)); });
}

}  // namespace personascope
