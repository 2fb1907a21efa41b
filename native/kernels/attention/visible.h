// Which keys a query sees; shared by the variants. Macro-free and free of std templates, so that ISA files
// may include it.
#pragma once
#include "native/kernels/attention/attention.h"

namespace personascope {
namespace {

struct Lengths {
  std::size_t queries, keys;
  std::ptrdiff_t offset;
};

inline Lengths lengths_of(const AttentionShape& s, std::size_t b) {
  Lengths l;
  l.queries = s.q_lengths ? static_cast<std::size_t>(s.q_lengths[b]) : s.q_len;
  l.keys = s.k_lengths ? static_cast<std::size_t>(s.k_lengths[b]) : s.k_len;
  l.offset = s.q_offsets ? s.q_offsets[b] : 0;
  return l;
}

// Number of keys that query t sees: they are 0 ... count - 1.
inline std::size_t visible_keys(const AttentionShape& s, const Lengths& l, std::size_t t) {
  if (t >= l.queries) return 0;
  if (!s.causal) return l.keys;
  const std::ptrdiff_t last = l.offset + static_cast<std::ptrdiff_t>(t);
  if (last < 0) return 0;
  const std::size_t count = static_cast<std::size_t>(last) + 1;
  return count < l.keys ? count : l.keys;
}

}  // namespace
}  // namespace personascope
