// The candidates of one token while latents are screened: bounded lists, thresholds that rise, and the last
// choice of the k codes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/kernels/encode/encode.h"

namespace personascope {

// Positive values begin here: the initial threshold keeps value > 0.
constexpr float kLeastPositive = 0x1p-149f;

// What choosing among candidates needs to know about a token.
struct Chooser {
  const EncodeKernels* kernels = nullptr;
  const EncoderWeights* encoder = nullptr;
  std::size_t k = 0;
  std::vector<float> values;               // scratch
  std::vector<std::uint64_t> keys;         // scratch
  std::vector<std::uint32_t> open, slots;  // scratch

  // Raises `threshold` as far as the list shows (at most `spare` more than k then lie above it) and drops
  // what cannot be a code.
  void trim(CandidateList& list, float& threshold, std::size_t spare) const;
  // Replaces bounds by canonical values (row: the token's x') and keeps the k best: mass ties, bounds too
  // wide to choose. The list then holds at most k and the threshold is exact.
  void settle(CandidateList& list, float& threshold, const float* row);
  // Writes the codes of the token; returns their number.
  std::uint32_t finish(CandidateList& list, float threshold, const float* row, std::uint32_t* indices,
                       float* values_out);

 private:
  // keys: the k best (value, latent) of the list with value > 0, best first.
  void rank(CandidateList& list, const float* row);
};

}  // namespace personascope
