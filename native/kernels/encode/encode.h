// Exact top-k encoding:  codes[t] = the k largest of relu(W (x[t] - centre) + b), fused; tokens x latents is
// never formed.
//
// What a value is. The pre-activation of latent l on token t is defined by the *canonical product*: x' = x -
// centre in fp32; 64 sums side by side, sum j taking the terms i = j, j + 64, j + 128, ... in that order by
// fp32 fused multiply-add, starting from 0; the sums added by the tree i + (i + 32), + 16, + 8, + 4, + 2, +
// 1; then + b[l]. Every ISA, batch split and number of threads gives these very bits. (The rounding error of
// the canonical product is below (width / 64 + 8) 2^-24 |w| |x'|, smaller than a plain sgemm's.)
//
// Which codes come back. Of the latents with value > 0 the k largest, ties by lower latent; fewer than k when
// fewer are positive. Order: value descending, then latent ascending.
//
// How. A register-blocked product over (latents x tokens) only *screens*: with each screened value comes a
// rigorous bound on its distance from the canonical product, so a latent is dropped only when it cannot be
// among the k. Survivors, a few more than k, are rescored canonically. Screening in other precisions is
// another `screen` with its own bounds; nothing else changes.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>

#include "native/core/aligned.h"
#include "native/core/isa.h"

namespace personascope {

// Rows of weights begin at multiples of this many floats, and are zero beyond the width.
constexpr std::size_t kRowUnit = 16;
inline std::size_t padded_width(std::size_t width) {
  return (width + kRowUnit - 1) / kRowUnit * kRowUnit;
}

// The encoder's weights with what screening needs beside them. The pointers are the caller's and must outlive
// it. After the weights or the bias changed: refresh().
class EncoderWeights {
 public:
  EncoderWeights() = default;
  // weights [latents, stride], stride = padded_width(width) or a larger multiple of kRowUnit, zeros beyond
  // `width`; bias [latents]; centre [width] or null. Throws invalid_argument (sizes) and non_finite
  // (weights, located). width <= 2^20, latents < 2^32.
  EncoderWeights(const float* weights, std::size_t stride, const float* bias, const float* centre,
                 std::size_t latents, std::size_t width);
  void refresh();

  const float* weights = nullptr;
  std::size_t stride = 0;
  const float* bias = nullptr;
  const float* centre = nullptr;
  std::size_t latents = 0, width = 0;
  // |screened - canonical| <= slack_scale[l] |x'| + slack_offset[l]
  AlignedBuffer<float> slack_scale, slack_offset;
  double largest_norm = 0, largest_bias = 0;
};

struct EncodeArgs {
  const EncoderWeights* encoder = nullptr;
  const float* x = nullptr;  // [tokens, x_stride], the first `width` of each row are read
  std::size_t tokens = 0, x_stride = 0;
  std::size_t k = 0;                 // 1 <= k <= latents
  std::uint32_t* indices = nullptr;  // [tokens, k]
  float* values = nullptr;           // [tokens, k]
  std::uint32_t* counts = nullptr;   // [tokens]; entries beyond a token's count are left alone
  std::size_t first_token = 0;       // number of token 0 in messages
  std::function<void()> check;       // called from any thread between pieces of work; may throw to abort
};

// Throws invalid_argument, and non_finite for NaN or Inf in x (first token and dimension named) or where
// |w| |x'| is so large that fp32 would overflow.
void encode(const EncodeArgs& args);

// Canonical pre-activations of chosen latents: out [tokens, count] = W[chosen] (x - centre) + b, signed.
void pre_activations(const EncoderWeights& encoder, const float* x, std::size_t tokens, std::size_t x_stride,
                     const std::uint32_t* chosen, std::size_t count, float* out);

// Where screened latents go: one list a token.
struct CandidateList {
  float* upper = nullptr;  // canonical value <= upper
  float* lower = nullptr;  // canonical value >= lower; lower == upper means the canonical value itself
  std::uint32_t* index = nullptr;
  std::uint32_t count = 0;
};

struct ScreenArgs {
  const EncoderWeights* encoder = nullptr;
  const float* slack_scale = nullptr;  // the encoder's
  const float* slack_offset = nullptr;
  std::size_t begin = 0, end = 0;  // latents
  std::size_t tokens = 0;          // <= group
  const float* rows = nullptr;     // x' [tokens, padded_width]
  const float* panel = nullptr;    // x' as `pack` wrote it
  const char* prefetch = nullptr;  // memory that is wanted soon: about width / 4 lines from here
  // [group]: |x'|, and the value below which a latent cannot be a code (+Inf for lanes without a token). The
  // kernel pushes latents with upper >= threshold; when a list is full it calls `compact`, which empties it
  // in part and raises the threshold.
  const float* norms = nullptr;
  const float* thresholds = nullptr;
  CandidateList* lists = nullptr;  // [tokens]
  std::uint32_t capacity = 0;
  void (*compact)(void* context, std::size_t token) = nullptr;
  void* context = nullptr;
};

// What an ISA provides; all on one thread.
struct EncodeKernels {
  std::size_t group;  // tokens that one call of `screen` takes
  // row [padded_width] = x - centre (centre may be null), zero beyond; returns |row|^2.
  double (*prepare)(const float* x, const float* centre, std::size_t width, float* row);
  // panel (group * width floats) from rows [tokens, padded_width].
  void (*pack)(const float* rows, std::size_t tokens, std::size_t width, float* panel);
  void (*screen)(const ScreenArgs& args);
  // The same without a panel, by canonical products: for a handful of tokens.
  void (*screen_direct)(const ScreenArgs& args);
  // values[i] = canonical product of latent index[i] with `row`, bias added.
  void (*products)(const EncoderWeights& encoder, const float* row, const std::uint32_t* index,
                   std::size_t count, float* values);
  double (*squared_norm)(const float* row, std::size_t padded);
  // How many of the n values are >= bound.
  std::size_t (*count_at_least)(const float* values, std::size_t n, float bound);
};
const Variants<EncodeKernels>& encode_variants();

}  // namespace personascope
