// The kernels of encoding and what they are given. Pointers are device memory; [n] in elements.
//
// One batch of tokens steps over the latents wave by wave (shared/waves.h). A wave is: screen (every latent
// of it whose upper bound reaches the token's threshold is put into the token's list), then settle
// (thresholds rise, what lies below them is dropped, what must be is rescored canonically). At the end what
// is left is certain.
#pragma once
#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "cuda/shared/bounds.h"
#include "native/core/device_api.h"

namespace personascope::cuda {

// Rows as the screens read them begin at multiples of this many bytes, zeros beyond the width.
constexpr std::size_t kRowBytes = 128;
// Tokens of a batch are padded with empty ones to a multiple of this.
constexpr std::size_t kTokenUnit = 256;
PERSONASCOPE_HOST_DEVICE inline std::size_t padded_to(std::size_t value, std::size_t unit) {
  return (value + unit - 1) / unit * unit;
}
// Centred tokens in fp32, and rows of fp32: elements.
PERSONASCOPE_HOST_DEVICE inline std::size_t padded_width(std::size_t width) {
  return padded_to(width, 64);
}
PERSONASCOPE_HOST_DEVICE inline std::size_t screen_bytes(DevicePrecision precision, std::size_t width) {
  return padded_to(width * (precision == DevicePrecision::bf16 ? 2 : 1), kRowBytes);
}

// ---- preparing -------------------------------------------------------------------------------------------

struct BoundTable {  // [latents] each
  float *scale, *bias, *slack_norm, *slack_error, *slack_offset;
};

// What was found while rows and tokens were read. Places are minima, kNowhere where there is none.
constexpr unsigned long long kNowhere = ~0ull;
struct Findings {
  unsigned long long non_finite;  // row * width + dimension
  unsigned long long overflow;    // row whose products could overflow
  unsigned int largest_norm;      // bits of a float >= 0: |w| max(1, scale), rounded up
};

struct PrepareRowsArgs {
  const std::uint8_t* rows;  // row of latent `first`
  Dtype dtype;
  std::size_t stride;  // bytes
  std::uint64_t first, count;
  std::size_t width;
  DevicePrecision precision;
  const float* bias;  // [latents]
  Selection selection;
  const float* mean;  // [width] or null
  double mean_norm;
  std::uint8_t* screen_rows;  // of latent `first`; null: the rows themselves are screened
  std::size_t screen_stride;
  BoundTable bounds;  // of latent 0
  Findings* findings;
};
void prepare_rows(const PrepareRowsArgs& args, cudaStream_t stream);

struct PrepareTokensArgs {
  const float* x;  // [tokens, stride]
  std::size_t stride, width;
  std::uint32_t tokens, padded;  // the padded ones become empty
  const float* centre;           // [width] or null
  const float* mean;
  DevicePrecision precision;
  double largest_norm, largest_bias;
  float* rows;                // x' [tokens, padded_width]
  std::uint8_t* screen_rows;  // [padded, screen_bytes]
  float4* bounds;             // [padded]: scale, norm, error, 0
  Findings* findings;
};
void prepare_tokens(const PrepareTokensArgs& args, cudaStream_t stream);

// ---- screening -------------------------------------------------------------------------------------------

struct Lists {
  float *upper, *lower;  // [tokens, capacity]; equal: rescored, both are the score
  float* value;          // of the code, where rescored; may be `upper`: value and score are the same then
  std::uint32_t* index;
  std::uint32_t* count;  // [tokens]; may exceed the capacity after a wave: the list overflowed
  std::uint32_t* kept;   // [tokens]: count before the wave
  float* threshold;      // [padded tokens], +Inf beyond the tokens
  std::uint32_t capacity;
};

struct ScreenArgs {
  DevicePrecision precision;
  const std::uint8_t* rows;  // of latent `first`
  std::size_t row_stride;
  BoundTable bounds;  // of latent 0
  std::uint32_t first, count;
  const std::uint8_t* token_rows;  // [padded, step_bytes]
  std::size_t row_bytes;           // a multiple of kRowBytes
  std::uint32_t tokens;
  const float4* token_bounds;
  Lists lists;
};
void screen_portable(const ScreenArgs& args, cudaStream_t stream);
// At most kNarrowTokens tokens: rows of weights are read once, straight into registers.
constexpr std::uint32_t kNarrowTokens = 16;
void screen_narrow(const ScreenArgs& args, cudaStream_t stream);
// sm_90 only; args.rows lie in one allocation of `latents` rows that begins at latent 0 of the map.
struct HopperMaps {
  alignas(64) unsigned char weights[128], tokens[128];  // CUtensorMap
};
// Throws internal where the driver refuses.
HopperMaps make_hopper_maps(const std::uint8_t* rows, std::uint64_t latents, const std::uint8_t* token_rows,
                            std::uint32_t padded_tokens, std::size_t row_bytes);
// map_first: the row of the weights' map that is latent args.first. pair: two blocks share the tokens' tile.
void screen_hopper(const ScreenArgs& args, const HopperMaps& maps, std::uint32_t map_first, bool pair,
                   cudaStream_t stream);

// ---- settling --------------------------------------------------------------------------------------------

struct Status {
  unsigned int overflowed;  // lists that overflowed
  unsigned int fresh;       // most candidates a list got
  unsigned int held;        // most that one holds now
  unsigned int codes;       // most codes a token has, those of its list included
  unsigned long long screened, rescored;
};

enum class SettleMode : int {
  trim = 0,     // thresholds rise as far as the bounds show
  sharpen = 1,  // the likeliest are rescored first
  resolve = 2   // everything is rescored; only codes stay
};

struct SettleArgs {
  Lists lists;
  std::uint32_t tokens;
  std::uint32_t k;           // 0: every certain one is a code
  const std::uint8_t* rows;  // of latent `first`
  Dtype dtype;
  std::size_t row_stride, width;
  std::uint32_t first;
  const float* token_rows;  // x' [tokens, padded_width]
  const float* bias;
  Selection selection;
  SettleMode mode;
  const std::uint32_t* code_counts;  // [tokens]
  Status* status;
};
// Looks for overflow only: fills status.overflowed and status.fresh.
void inspect(const SettleArgs& args, cudaStream_t stream);
// After an overflow: thresholds rise by what the lists took, which is then dropped.
void give_back(const SettleArgs& args, cudaStream_t stream);
void settle(const SettleArgs& args, cudaStream_t stream);

// Empties lists and sets the thresholds of the first `tokens`.
void start_lists(const Lists& lists, std::uint32_t tokens, std::uint32_t padded, float threshold,
                 cudaStream_t stream);

// ---- codes -----------------------------------------------------------------------------------------------

struct CodeStore {
  std::uint32_t* latents;  // [tokens, pitch]
  float* values;
  std::uint32_t* counts;  // [tokens]
  std::uint32_t pitch;
};
// Moves what the lists hold (all certain) behind the codes that are there.
void emit(const Lists& lists, const CodeStore& store, std::uint32_t tokens, cudaStream_t stream);
// offsets [tokens + 1] from counts.
void make_offsets(const std::uint32_t* counts, std::uint32_t tokens, std::uint64_t* offsets,
                  cudaStream_t stream);
// Codes in the order in which they are given out, packed. keys [tokens, power of two >= pitch], scratch.
void pack_codes(const CodeStore& store, std::uint32_t tokens, const std::uint64_t* offsets,
                std::uint64_t* keys, std::uint32_t key_pitch, std::uint32_t* indices, float* values,
                cudaStream_t stream);

// ---- pre-activations -------------------------------------------------------------------------------------
// out [tokens, count] = canonical product + bias of latents chosen[i] (row of latent 0 at rows).
struct ProductsArgs {
  const std::uint8_t* rows;
  Dtype dtype;
  std::size_t row_stride, width;
  const float* token_rows;
  std::uint32_t tokens;
  const std::uint32_t* chosen;
  const float* bias;
  std::uint32_t count;
  float* out;
};
void products(const ProductsArgs& args, cudaStream_t stream);

}  // namespace personascope::cuda
