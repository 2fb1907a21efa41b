// Exact sparse encoding: codes of tokens x under an encoder W, fused; tokens x latents is never formed.
//
// What a value is. The product of latent l with token t is the *canonical product*: x' = x - centre in fp32;
// the row of W widened exactly to fp32 from whatever type it is kept in; 64 sums side by side, sum j taking
// the terms i = j, j + 64, j + 128, ... in that order by fp32 fused multiply-add, starting from 0; the sums
// added by the tree i + (i + 32), + 16, + 8, + 4, + 2, + 1. Its rounding error is below (width / 64 + 8)
// 2^-24 |w| |x'|, smaller than a plain sgemm's. What is made of it: Selection (selection.h). Every ISA,
// precision of screening, batch split and number of threads gives these very bits.
//
// In which order codes come: value descending, then latent ascending.
//
// How. A register-blocked product over (latents x tokens), in fp32, bf16 or int8, only *screens*: with each
// screened value comes a rigorous bound on its distance from the canonical one (screen.h), so a latent is
// dropped only when it cannot be a code. Survivors, a few more than the codes, are rescored canonically.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "native/core/row_view.h"
#include "native/kernels/encode/selection.h"

namespace personascope {

// Rows of fp32 work space begin at multiples of this many floats, and are zero beyond the width.
constexpr std::size_t kRowUnit = 16;
inline std::size_t padded_width(std::size_t width) {
  return (width + kRowUnit - 1) / kRowUnit * kRowUnit;
}

struct Screen;

// An encoder's weights where they lie; the pointers are the caller's and must outlive it.
class EncoderWeights {
 public:
  EncoderWeights() = default;
  // weights [latents, stride]; bias [latents]; centre [width] or null; top-k. Reads all of it: throws
  // invalid_argument (sizes) and non_finite (located). width <= 2^20, latents < 2^32. After the weights or
  // the bias changed: refresh().
  EncoderWeights(const float* weights, std::size_t stride, const float* bias, const float* centre,
                 std::size_t latents, std::size_t width);
  // The same in general; nothing is read yet, and screens are made by make_screen().
  EncoderWeights(const RowView& rows, const float* bias, const float* centre, const Selection& selection);
  void refresh();

  const char* name = "W_enc";  // for messages
  RowView rows;
  const float* bias = nullptr;
  const float* centre = nullptr;
  std::size_t latents = 0, width = 0;
  Selection selection;
  std::shared_ptr<const Screen> screen;  // fp32; made by refresh()
};

struct Code {
  float value = 0;
  std::uint32_t latent = 0;
};

// How much work exactness took. With more than one thread it depends on which of them was there first; the
// codes never do.
struct EncodeCount {
  std::uint64_t screened = 0;  // latents that passed the screen's threshold of the moment
  std::uint64_t rescored = 0;  // canonical products
  // Units (latents, or groups of groupmax) of blocks that were screened by threads which had finished their
  // own.
  std::uint64_t shared = 0;
};

struct EncodeArgs {
  const EncoderWeights* encoder = nullptr;
  const Screen* screen = nullptr;  // null: the encoder's
  const float* x = nullptr;        // [tokens, x_stride], the first `width` of each row are read
  std::size_t tokens = 0, x_stride = 0;
  std::size_t k = 0;  // topk, groupmax: 1 <= k <= latents; else unused
  // Where codes go: either k places a token (topk, groupmax only), entries beyond a token's count left alone,
  std::uint32_t* indices = nullptr;  // [tokens, k]
  float* values = nullptr;           // [tokens, k]
  std::uint32_t* counts = nullptr;   // [tokens]
  // or one list a token [tokens].
  std::vector<Code>* codes = nullptr;
  std::size_t first_token = 0;  // number of token 0 in messages
  EncodeCount* count = nullptr;
  // Products that a thread takes of a block at once, so that others can help it: a millisecond or so.
  std::size_t share = std::size_t{1} << 27;
  std::function<void()> check;  // called from any thread between pieces of work; may throw to abort
};

// Throws invalid_argument, and non_finite for NaN or Inf in x (first token and dimension named) or where
// |w| |x'| is so large that fp32 would overflow.
void encode(const EncodeArgs& args);

// Canonical pre-activations of chosen latents: out [tokens, count] = W[chosen] (x - centre) + b, signed.
void pre_activations(const EncoderWeights& encoder, const float* x, std::size_t tokens, std::size_t x_stride,
                     const std::uint32_t* chosen, std::size_t count, float* out);

}  // namespace personascope
