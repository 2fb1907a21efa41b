// A sparse autoencoder: x' = x - b_dec (if subtract_decoder_bias), codes = TopK(W_enc x' + b_enc), and
// reconstruction = codes W_dec + b_dec. Immutable and shared: any number of threads may use one.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "native/core/aligned.h"
#include "native/kernels/decode/codes.h"
#include "native/kernels/encode/encode.h"
#include "native/kernels/latent_stats/latent_stats.h"

namespace personascope {

enum class SaeArchitecture : int { topk = 0 };

struct SaeConfig {
  SaeArchitecture architecture = SaeArchitecture::topk;
  std::size_t latents = 0, width = 0;
  std::size_t k = 0;
  bool subtract_decoder_bias = true;  // SAELens: apply_b_dec_to_input
};

// How the caller's W_enc lies in memory.
enum class EncoderLayout : int {
  latent_major = 0 /* [latents, width] */,
  width_major = 1 /* [width, latents] */
};

// Row t holds pairs [offsets[t], offsets[t + 1]): value > 0, descending, equal values by lower latent.
struct SparseCodes {
  std::size_t tokens = 0, latents = 0;
  std::vector<std::uint32_t> indices, offsets = {0};
  std::vector<float> values;
  CodesView view() const { return {tokens, indices.data(), values.data(), offsets.data(), 0, nullptr}; }
};

// Called from time to time with the tokens done so far; may throw to abort.
using TokenProgress = std::function<void(std::size_t done)>;

class Sae {
 public:
  // Copies the weights. w_dec [latents, width], b_enc [latents], b_dec [width]. Throws invalid_argument
  // (sizes, k) and non_finite (the tensor and the place named).
  Sae(const SaeConfig& config, const float* w_enc, EncoderLayout layout, const float* w_dec,
      const float* b_enc, const float* b_dec);
  Sae(const Sae&) = delete;
  Sae& operator=(const Sae&) = delete;

  const SaeConfig& config() const { return config_; }
  // x [tokens, stride]. A batch may hold at most 2^32 - 1 pairs. `check` is called often, from any thread.
  SparseCodes encode(const float* x, std::size_t tokens, std::size_t stride,
                     const TokenProgress& progress = {}, const std::function<void()>& check = {}) const;
  // The same into the caller's arrays, k places a token (see EncodeArgs).
  void encode_to(const float* x, std::size_t tokens, std::size_t stride, std::uint32_t* indices,
                 float* values, std::uint32_t* counts) const;
  // Encodes and adds to `stats` without keeping the codes; groups and ids as in LatentStats::add. Where it
  // throws, the tokens of earlier pieces have been added.
  void encode_into(LatentStats& stats, const float* x, std::size_t tokens, std::size_t stride,
                   const std::uint32_t* groups, const double* ids, const TokenProgress& progress = {},
                   const std::function<void()>& check = {}) const;
  // out [tokens, width] = codes W_dec + b_dec
  void decode(const CodesView& codes, float* out) const;
  // Signed values before the top-k, out [tokens, count].
  void pre_activations(const float* x, std::size_t tokens, std::size_t stride, const std::uint32_t* latents,
                       std::size_t count, float* out) const;

  const float* decoder_vector(std::size_t latent) const;  // [width]; throws invalid_argument
  const float* encoder_vector(std::size_t latent) const;
  const float* encoder_bias() const { return b_enc_.data(); }
  const float* decoder_bias() const { return b_dec_.data(); }
  // Copies W_enc to out in either layout.
  void copy_encoder(EncoderLayout layout, float* out) const;
  void copy_decoder(float* out) const;  // [latents, width]
  // Memory held, bytes.
  std::size_t bytes() const {
    return (w_enc_.size() + w_dec_.size() + 3 * b_enc_.size() + b_dec_.size()) * 4;
  }

 private:
  // Tokens encoded between two progress reports.
  std::size_t piece() const;
  void encode_piece(const float* x, std::size_t first, std::size_t tokens, std::size_t stride,
                    const std::function<void()>& check, std::uint32_t* indices, float* values,
                    std::uint32_t* counts) const;

  SaeConfig config_;
  std::size_t stride_ = 0;
  AlignedBuffer<float> w_enc_, w_dec_, b_enc_, b_dec_;  // rows padded with zeros to stride_
  EncoderWeights encoder_;
};

}  // namespace personascope
