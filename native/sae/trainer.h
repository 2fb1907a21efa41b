// Training of a TopK sparse autoencoder (Gao et al. 2024, "Scaling and evaluating sparse autoencoders",
// arXiv 2406.04093): tied start, unit-norm decoder with the gradient along its vectors removed, AuxK loss
// that revives dead latents, Adam. One step a batch; no array of tokens x latents in forward or backward.
//
//   loss = |x - x_hat|^2 / V  +  aux_coefficient * share * |e - e_hat|^2 / V
//
// summed over the batch; V the batch's sum of squared distances from its mean, so the first term is the
// fraction of variance unexplained (FVU); e = x - x_hat (no gradient through it); e_hat the decoding of the
// k_aux largest dead latents; share = min(1, dead / k_aux).
//
// Inputs are scaled by one number so that they have mean length sqrt(width) about b_dec (undone in the
// result), which makes learning rates comparable over models.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/core/aligned.h"
#include "native/kernels/encode/encode.h"
#include "native/kernels/sae_update/sae_update.h"
#include "native/sae/sae.h"

namespace personascope {

enum class DecoderBiasStart : int { geometric_median = 0, mean = 1 };

struct SaeTrainerOptions {
  std::size_t latents = 0, width = 0, k = 0;
  std::uint64_t seed = 0;
  DecoderBiasStart bias_start = DecoderBiasStart::geometric_median;
  std::size_t aux_k = 0;  // 0: no AuxK
  double aux_coefficient = 1.0 / 32;
  std::uint64_t dead_after_tokens = 0;  // a latent is dead when it has not been active for so many tokens
  double beta1 = 0.9, beta2 = 0.999, epsilon = 6.25e-10;
};

struct SaeStepReport {
  std::uint64_t step = 0, tokens = 0;  // so far
  double fvu = 0;                      // of this batch, before the step
  double aux_fvu = 0;                  // |e - e_hat|^2 / |e|^2, 0 where no latent is dead
  double l0 = 0;                       // mean number of active latents a token
  double dead_share = 0;               // after this batch
};

// Gradients of one batch, for checks. Rows have padded_width(width) floats.
struct SaeGradients {
  double loss = 0;
  AlignedBuffer<float> encoder, decoder, bias, decoder_bias;
};

class SaeTrainer {
 public:
  explicit SaeTrainer(const SaeTrainerOptions& options);

  // One step on x [tokens, stride], tokens >= 1; the first batch also sets b_dec and the scale of inputs.
  // Throws invalid_argument and non_finite (located); nothing has changed then.
  SaeStepReport step(const float* x, std::size_t tokens, std::size_t stride, double learning_rate);
  // The gradients that `step` would use, without the projection; changes nothing but the start.
  SaeGradients gradients(const float* x, std::size_t tokens, std::size_t stride);
  // The autoencoder so far, for inputs as given.
  Sae result() const;

  const SaeTrainerOptions& options() const { return options_; }
  double input_scale() const { return scale_; }
  // The parameters in scaled units, for checks; rows of padded_width(width) floats.
  float* encoder() { return encoder_.w.data(); }
  float* decoder() { return decoder_.w.data(); }
  float* bias() { return bias_.w.data(); }
  float* decoder_bias() { return decoder_bias_.w.data(); }
  // Makes latents count as dead or alive, for checks.
  void set_idle_tokens(std::size_t latent, std::uint64_t tokens) { idle_[latent] = tokens; }

 private:
  struct Parameter {
    AlignedBuffer<float> w, m, v;
    explicit Parameter(std::size_t size) : w(size), m(size), v(size) {}
    Moments moments() { return {w.data(), m.data(), v.data()}; }
  };
  // Codes of a batch and the same sorted by latent.
  struct Codes {
    std::size_t k = 0;
    std::vector<std::uint32_t> indices, counts, begin, token;
    std::vector<float> values, value;
    CodesView view(std::size_t tokens) const {
      return {tokens, indices.data(), values.data(), nullptr, k, counts.data()};
    }
    void resize(std::size_t tokens, std::size_t codes_a_token);
    void sort(std::size_t tokens, std::size_t latents);
  };
  void start(const float* x, std::size_t tokens, std::size_t stride);
  // Everything up to the gradient by the reconstruction; returns the loss.
  double forward(const float* x, std::size_t tokens, std::size_t stride, SaeStepReport& report);
  double forward_dead(std::size_t tokens, double variance, double error, SaeStepReport& report);
  SaeUpdateArgs update_args();
  // centre_gradient_ = gradient by b_dec; `args` decides whether latents are stepped.
  void backward(const SaeUpdateArgs& args, std::size_t tokens);

  SaeTrainerOptions options_;
  std::size_t stride_ = 0;
  bool started_ = false;
  double scale_ = 1;
  std::uint64_t steps_ = 0, tokens_ = 0;
  Parameter encoder_, decoder_, bias_, decoder_bias_;
  std::vector<std::uint64_t> idle_;  // tokens since a latent was active

  EncoderWeights weights_;  // of encoder_.w, no centre: x_ is centred
  Codes codes_, dead_codes_;
  std::vector<std::uint32_t> dead_;
  AlignedBuffer<float> x_, gradient_, dead_gradient_;  // [tokens, stride]
  AlignedBuffer<float> dead_encoder_, dead_bias_;      // rows of W_enc of the dead latents
  std::vector<LatentPairs> parts_;
  AlignedBuffer<float> centre_gradient_, partial_;
};

}  // namespace personascope
