// Screening: products of many latents with many tokens in a cheap precision, each with a rigorous bound.
//
// What is screened is the quantity that selection compares (see Selection): g for topk and groupmax, g -
// max(threshold, 0) for threshold, p + gate_bias for gated. With w^ and x^ the row and the centred token as
// the precision holds them, and product = their dot product in that precision:
//
//   value = product * scale[l] * token_scale[t] + bias[l]
//   |value - canonical| <= slack = slack_norm[l] norm[t] + slack_error[l] error[t] + slack_offset[l]
//
// Tokens are centred by `mean` before they are rounded, and W mean is part of bias: residual streams have a
// few dimensions with a large mean, which would spoil the scale of all others. From |w x - w^ x^| <= |w - w^|
// |x| + |w^| |x - x^|, and the rounding of every step that leads to value and slack, make_screen() fills in
// the table; slack >= 2^-21 |value|, so value - slack < value + slack in fp32 too.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "native/core/aligned.h"
#include "native/core/isa.h"
#include "native/kernels/encode/encode.h"

namespace personascope {

enum class Precision : int { fp32 = 0, bf16 = 1, int8 = 2 };
const char* precision_name(Precision precision);

struct Int8Copy;

struct Screen {
  Precision precision = Precision::fp32;
  AlignedBuffer<float> scale, bias, slack_norm, slack_error, slack_offset;  // [latents]
  AlignedBuffer<float> mean;  // [padded width], or empty: tokens are not centred
  std::shared_ptr<const Int8Copy> copy;
  AlignedBuffer<double> mean_product;         // [latents], W mean; where there are a copy and a mean
  double largest_norm = 0, largest_bias = 0;  // of rows, scaled; of biases
};

struct ScreenHooks {
  std::function<void(std::size_t latents)> progress;  // latents done so far; may throw to abort
  std::function<void()> check;                        // called from any thread; may throw to abort
};

// Reads the weights once. mean [width] or null; never with fp32. `copy`: an int8 copy of this encoder that is
// ready; `room`: one to fill in; else one is made. Throws non_finite (tensor and place named).
std::shared_ptr<const Screen> make_screen(const EncoderWeights& encoder, Precision precision,
                                          const float* mean, const ScreenHooks& hooks = {},
                                          std::shared_ptr<const Int8Copy> copy = nullptr,
                                          std::shared_ptr<Int8Copy> room = nullptr);
// The same of what was found before; reads no weights. mean [width] and mean_product [latents], or both null.
std::shared_ptr<const Screen> make_screen(const EncoderWeights& encoder, std::shared_ptr<const Int8Copy> copy,
                                          const float* mean, const double* mean_product);

// Where screened latents go: one list a token.
struct CandidateList {
  float* upper = nullptr;  // canonical quantity <= upper
  float* lower = nullptr;  // canonical quantity >= lower; lower == upper: rescored, both are the score
  float* value = nullptr;  // of a rescored one: the value of its code
  std::uint32_t* index = nullptr;
  std::uint32_t count = 0;
};
// Places beyond the capacity that a kernel may write to.
constexpr std::size_t kListPadding = 16;

struct ScreenArgs {
  const Screen* screen = nullptr;
  std::size_t width = 0;
  std::size_t begin = 0, end = 0;  // latents, within one step
  // fp32, bf16: row `begin`, rows `weights_stride` bytes apart. int8: the panel that holds `begin`.
  const std::uint8_t* weights = nullptr;
  std::size_t weights_stride = 0;
  std::size_t tokens = 0;              // 1 to group
  const void* panel = nullptr;         // as `pack` wrote it
  const float* token_scale = nullptr;  // [group] each
  const float* norm = nullptr;
  const float* error = nullptr;
  // Memory that is wanted soon: the kernel asks for it on its way (ahead.inl).
  const char* wanted = nullptr;
  std::size_t wanted_bytes = 0;
  // [group]: the value below which a latent cannot be a code (+Inf for places without a token). The kernel
  // pushes latents with upper >= threshold; when a list cannot take them it calls `compact`, which empties it
  // at least in half and may raise the threshold.
  const float* thresholds = nullptr;
  CandidateList* lists = nullptr;  // [tokens]
  std::uint32_t capacity = 0;
  void (*compact)(void* context, std::size_t token) = nullptr;
  void* context = nullptr;
};

// One precision on one ISA.
struct ScreenKernels {
  std::size_t group = 0;  // tokens that one call of `screen` takes
  std::size_t step = 0;   // latents that it is best given
  std::size_t (*panel_bytes)(std::size_t width) = nullptr;
  // panel from rows [tokens, row_pitch] of fp32, bf16 (std::uint16_t) or int8.
  void (*pack)(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width,
               void* panel) = nullptr;
  void (*screen)(const ScreenArgs& args) = nullptr;
};

struct Quantised {
  float scale = 0;
  double squared_error = 0;  // |row - scale q|^2
};

struct PairsArgs {
  const RowView* weights = nullptr;
  const float* rows = nullptr;  // x' [tokens, padded]
  std::size_t padded = 0;
  const std::uint32_t* latents = nullptr;  // [count], quickest when equal ones follow each other
  const std::uint32_t* tokens = nullptr;   // [count]
  std::size_t count = 0;
  float* out = nullptr;  // [count]
};

// What an ISA provides; all on one thread.
struct EncodeKernels {
  // row [padded_width] = x - centre (centre may be null), zero beyond; returns |row|^2.
  double (*prepare)(const float* x, const float* centre, std::size_t width, float* row);
  // Canonical products, without bias.
  void (*products)(const PairsArgs& args);
  // out [padded_width] = one row of weights in fp32, zero beyond.
  void (*widen)(const RowView& weights, std::size_t row, float* out);
  double (*dot)(const float* a, const float* b, std::size_t padded);  // in fp64
  // row [padded] turned by a fixed orthogonal matrix, in place: a few large dimensions are spread over many,
  // which int8 needs. Seen as [m][16], m is mixed by Hadamard matrices as large as the power of two in m,
  // after signs; rounding error below (log2 m + 2) 2^-24 |row|.
  void (*rotate)(float* row, std::size_t padded);
  // q = round(row / scale), |q| <= 127, for row [padded].
  Quantised (*quantise)(const float* row, std::size_t padded, std::int8_t* q);
  // The same to bf16; returns |row - rounded|^2.
  double (*round_bf16)(const float* row, std::size_t padded, std::uint16_t* rounded);
  // How many of the n values are >= bound.
  std::size_t (*count_at_least)(const float* values, std::size_t n, float bound);
  ScreenKernels fp32;
};
const Variants<EncodeKernels>& encode_variants();

// The kernels of a precision with the ISA in force.
const ScreenKernels& screen_kernels(Precision precision);
// Whether the ISA in force multiplies bf16 itself. Elsewhere screening in bf16 takes as long as in fp32,
// whose bounds are tighter.
bool multiplies_bf16();

}  // namespace personascope
