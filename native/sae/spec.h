// What a sparse autoencoder computes and where its weights lie, whatever format it came from.
#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "native/core/plugin.h"
#include "native/core/tensor.h"
#include "native/kernels/encode/screen.h"
#include "native/sae/decoder_rows.h"
#include "native/sae/input_transform.h"

namespace personascope {

// How the caller's W_enc lies in memory.
enum class EncoderLayout : int {
  latent_major = 0 /* [latents, width] */,
  width_major = 1 /* [width, latents] */
};

// A factor a latent, from the norms of its decoder vectors, one a layer of a crosscoder.
struct DecoderScale {
  double joined = 0;  // x the norm of all of them side by side
  double added = 0;   // x the sum of theirs
  bool any() const { return joined != 0 || added != 0; }
};

struct SaeSpec {
  std::size_t latents = 0, width = 0;
  std::size_t out_width = 0;  // 0: width
  SelectionRule rule = SelectionRule::topk;
  std::size_t k = 0;  // topk, groupmax
  InputNorm input_norm = InputNorm::none;
  // The output is another place of the model: it does not take back the input's normalisation.
  bool transcoder = false;
  bool subtract_decoder_bias = true;  // SAELens: apply_b_dec_to_input; needs out_width == width
  bool scaled_codes = false;          // see Selection; decoding divides them by selection_scale

  // Of screening, where a call names none; left out: PERSONASCOPE_PRECISION, else the quickest.
  std::optional<Precision> precision;

  // Where codes and reconstructions are computed. A GPU screens in int8 or bf16: `precision` may not be fp32.
  DeviceChoice device;

  // Where to keep what int8 screening needs (prepared_file.h), or empty; and what tells the source's versions
  // apart besides its contents: sizes and times of its files.
  std::string cache, cache_identity;

  // [latents, width], [latents, out_width], [out_width, width] or no data; any strides; F32, BF16, F16 or
  // F64. Weights without an owner are the caller's and are copied. A crosscoder's w_dec of a file may be
  // [latents, layers, out_width / layers].
  Tensor w_enc, w_dec, w_skip;
  std::vector<float> b_enc, b_dec;  // [latents], [out_width]
  std::vector<float> mean, scale;   // [width] or empty: inputs become (x - mean) / scale first
  std::vector<float> threshold;     // [latents], or one for all
  std::vector<float> gate_bias, magnitude_scale, magnitude_bias;  // [latents]; gated
  std::vector<float> selection_scale;                             // [latents] or empty
  DecoderScale decoder_scale;                                     // instead of it: encoding reads the decoder
  LayerGates layer_gates;                                         // of decoupled crosscoders
};

// The device of that name (see choose_device) for an SAE. 'auto' takes the CPU where fp32 is asked for, which
// GPUs do not screen in.
DeviceChoice sae_device(const std::string& name, const std::optional<Precision>& precision);

// A caller's matrix [rows, columns], or as it is stored the other way round.
Tensor matrix_of(const char* name, const float* data, std::size_t rows, std::size_t columns,
                 EncoderLayout layout);

// A TopK autoencoder over the caller's arrays: w_dec [latents, width], b_enc [latents], b_dec [width].
SaeSpec topk_spec(std::size_t latents, std::size_t width, std::size_t k, bool subtract_decoder_bias,
                  const float* w_enc, EncoderLayout layout, const float* w_dec, const float* b_enc,
                  const float* b_dec);

// Throws invalid_argument naming what does not fit, and non_finite for the vectors.
void check_spec(const SaeSpec& spec);

}  // namespace personascope
