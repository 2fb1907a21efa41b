// A sparse autoencoder or transcoder: codes = select(W_enc x' + b_enc) with x' the normalised input, minus
// b_dec if subtract_decoder_bias; reconstruction = codes W_dec + b_dec, normalisation undone (see SaeSpec).
// Immutable and shared: any number of threads may use one.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "native/core/aligned.h"
#include "native/kernels/encode/encode.h"
#include "native/kernels/encode/screen.h"
#include "native/kernels/latent_stats/latent_stats.h"
#include "native/sae/decoder_rows.h"
#include "native/sae/device_sae.h"
#include "native/sae/device_stats.h"
#include "native/sae/prepared_file.h"
#include "native/sae/sparse_codes.h"
#include "native/sae/spec.h"
#include "native/sae/weight_rows.h"

namespace personascope {

// Called from time to time with the tokens done so far; may throw to abort.
using TokenProgress = std::function<void(std::size_t done)>;

struct EncodeOptions {
  std::optional<Precision> precision;  // left out: as the spec says
  TokenProgress progress;
  std::function<void()> check;  // called often, from any thread; may throw to abort
};

struct DecodeInputs {
  const float* input_mean = nullptr;  // [tokens], as codes carry them
  const float* input_scale = nullptr;
  const float* x = nullptr;  // [tokens, width], for W_skip
};

class Sae {
 public:
  // Throws invalid_argument, format (dtypes) and non_finite (the tensor and the place named). Weights of the
  // caller are copied and checked now; mapped ones are not read before they are needed.
  explicit Sae(SaeSpec spec);
  Sae(const Sae&) = delete;
  Sae& operator=(const Sae&) = delete;

  // The spec, weights empty.
  const SaeSpec& spec() const { return spec_; }
  bool needs_input_norms() const { return spec_.input_norm != InputNorm::none && !spec_.transcoder; }
  bool has_skip() const { return skip_ != nullptr; }

  // Makes what encoding with that precision needs, once; encode() does it otherwise. `calibration` [tokens,
  // width]: inputs like those to come, whose mean makes screening sharper. Progress counts latents.
  void prepare(std::optional<Precision> precision, const float* calibration, std::size_t tokens,
               const ScreenHooks& hooks) const;
  // x [tokens, stride]. A batch may hold at most 2^32 - 1 pairs.
  SparseCodes encode(const float* x, std::size_t tokens, std::size_t stride,
                     const EncodeOptions& options = {}) const;
  // The same into the caller's arrays, k places a token (see EncodeArgs); topk and groupmax only.
  void encode_to(const float* x, std::size_t tokens, std::size_t stride, std::uint32_t* indices,
                 float* values, std::uint32_t* counts, const EncodeOptions& options = {}) const;
  // Encodes and adds to `stats` without keeping the codes; groups and ids as in LatentStats::add. Where it
  // throws, the tokens of earlier pieces have been added.
  EncodeReport encode_into(LatentStats& stats, const float* x, std::size_t tokens, std::size_t stride,
                           const std::uint32_t* groups, const double* ids,
                           const EncodeOptions& options = {}) const;
  // out [tokens, out_width] = codes W_dec + b_dec, normalisation undone, plus W_skip x.
  void decode(const CodesView& codes, const DecodeInputs& inputs, float* out) const;

  // The same of tensors: activations [..., width] of F32, or of F16, BF16 or F64, which are widened on the
  // host; rows of any stride. They lie on the host, or on the device of this SAE (native/sae/sae_device.cc).
  const DeviceChoice& device() const { return spec_.device; }
  SparseCodes encode(const DeviceTensor& x, const EncodeOptions& options = {}) const;
  // The codes stay on the device of this SAE.
  DeviceSparseCodes encode_kept(const DeviceTensor& x, const EncodeOptions& options = {}) const;
  EncodeReport encode_into(LatentStats& stats, const DeviceTensor& x, const std::uint32_t* groups,
                           const double* ids, const EncodeOptions& options = {}) const;
  // Statistics on the device of this SAE: codes do not leave it.
  EncodeReport encode_into(DeviceLatentStats& stats, const DeviceTensor& x,
                           const EncodeOptions& options = {}) const;
  // out [..., out_width] of F32, on the host or on the device of this SAE; codes of that device. input: for
  // W_skip, or null. A reconstruction that stays on a GPU is not searched for infinite values.
  void decode(const DeviceSparseCodes& codes, const DeviceTensor* input, const DeviceTensor& out) const;

  // Signed values before selection, out [tokens, count]: W_enc x' + b_enc (W_enc x' + gate bias of gated
  // SAEs).
  void pre_activations(const float* x, std::size_t tokens, std::size_t stride, const std::uint32_t* latents,
                       std::size_t count, float* out) const;

  std::vector<float> decoder_vector(std::size_t latent) const;  // [out_width]; throws invalid_argument
  std::vector<float> encoder_vector(std::size_t latent) const;  // [width]
  const Tensor& encoder() const { return w_enc_.source(); }
  const Tensor& decoder() const { return w_dec_.source(); }
  // Memory held for the weights now, bytes; mapped files are not counted.
  std::size_t bytes() const;

 private:
  struct Piece;
  // Tokens encoded between two progress reports, of so many in all: pieces of equal size.
  std::size_t piece(std::size_t tokens) const;
  InputTransform transform() const;
  // [latents], or null where latents are not chosen by scaled values; guarded by mutex_. The decoder's norms
  // are read when they are first wanted: a decoder may be larger than memory.
  const float* selection_scale(const std::function<void()>& check) const;
  // The encoder, its rows ready to be read.
  const EncoderWeights& ready_encoder(const std::function<void()>& check) const;
  Precision choose(const std::optional<Precision>& wanted) const;
  // The screen of a precision, made from a sample of inputs x' if need be.
  std::shared_ptr<const Screen> screen(Precision precision, const float* x, std::size_t tokens,
                                       std::size_t stride, const ScreenHooks& hooks) const;
  // Opens or begins the cache file, where there is to be one; guarded by mutex_.
  void open_cache(const std::function<void()>& check) const;
  std::shared_ptr<const Screen> cached_screen(const EncoderWeights& encoder) const;
  void write_cache(const Screen& screen) const;
  // Takes note of what screening cost.
  void learn(const EncodeReport& report, std::uint64_t codes) const;
  void encode_piece(const float* x, std::size_t first, std::size_t tokens, std::size_t stride,
                    const EncodeOptions& options, Piece& piece) const;
  // Encodes piece by piece and calls take(first token, count, piece) with the codes of each, a list a token.
  template <class Take>
  EncodeReport each_piece(const float* x, std::size_t tokens, std::size_t stride,
                          const EncodeOptions& options, const Take& take) const;
  template <class Rows>
  std::vector<float> vector_of(const Rows& rows, std::size_t latent, std::size_t width) const;
  // Activations of a tensor, checked: rows of this SAE's width, where it can take them.
  TensorRows rows_for(const DeviceTensor& x) const;
  // Throws invalid_argument unless statistics are of as many latents.
  void check_latents(std::size_t of_statistics) const;
  struct DevicePiece;
  // Tokens [first, first + tokens) of x as the device takes them, encoded there.
  DevicePiece encode_on_device(const DeviceTensor& x, const TensorRows& rows, std::size_t first,
                               std::size_t tokens, const EncodeOptions& options) const;
  std::optional<Precision> device_precision(const std::optional<Precision>& wanted) const;
  // Whether the device decodes: it has the decoder's weights now.
  bool take_decoder() const;
  // The product of decoding; false where it is the CPU's to make.
  bool decode_on_device(const DecodeArgs& args) const;

  SaeSpec spec_;
  WeightRows w_enc_;
  DecoderRows w_dec_;
  std::unique_ptr<WeightRows> skip_;
  std::unique_ptr<DeviceSae> device_;  // null: the CPU
  mutable std::mutex mutex_;
  mutable EncoderWeights encoder_;
  mutable std::vector<float> decoder_scale_;
  mutable std::shared_ptr<PreparedFile> cache_;
  // What encoding with one precision has come to know; guarded by mutex_.
  struct Screening {
    std::shared_ptr<const Screen> screen;
    bool taught = false;  // its mean is that of enough inputs
    int lessons = 0;      // times that its bounds were too wide to pay
    bool loose = false;   // they stay so: another precision is quicker
  };
  mutable std::array<Screening, 3> screenings_;
};

}  // namespace personascope
