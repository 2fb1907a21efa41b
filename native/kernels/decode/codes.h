// Sparse codes as kernels read them: for token t the (latent, value) pairs [begin(t), begin(t) + count(t)).
// Either packed with offsets [tokens + 1], or in rows of `pitch` pairs of which counts[t] are used.
#pragma once
#include <cstddef>
#include <cstdint>

namespace personascope {

struct CodesView {
  std::size_t tokens = 0;
  const std::uint32_t* indices = nullptr;
  const float* values = nullptr;
  const std::uint32_t* offsets = nullptr;
  std::size_t pitch = 0;
  const std::uint32_t* counts = nullptr;
  std::size_t begin(std::size_t t) const { return offsets ? offsets[t] : t * pitch; }
  std::size_t count(std::size_t t) const { return offsets ? offsets[t + 1] - offsets[t] : counts[t]; }
};

}  // namespace personascope
