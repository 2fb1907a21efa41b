// One optimiser step of a sparse autoencoder's latents, gradient and update in one pass, nothing dense in
// tokens x latents. For latent l with its pairs (t, v) of each part (the codes; the auxiliary codes of dead
// latents), G the part's gradient of the loss by the reconstruction [tokens, stride]:
//
//   dW_dec[l] = sum_t v G[t]          dv_t = W_dec[l] . G[t]
//   dW_enc[l] = sum_t dv_t x'[t]      db_enc[l] = sum_t dv_t        (v > 0, so the ReLU passes it)
//
// then the part of dW_dec along W_dec is removed, Adam steps W_dec, W_enc and b_enc, and W_dec is made unit
// length again. Sums run over the pairs in order, parts in order; dot products are canonical (see
// native/kernels/encode/encode.h). The same bits on every ISA and for any number of threads.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"

namespace personascope {

// Adam (Kingma & Ba 2015) at one step: w -= rate * (m correction1) / (sqrt(v correction2) + epsilon).
struct AdamStep {
  float rate = 0, beta1 = 0.9f, beta2 = 0.999f, epsilon = 6.25e-10f;
  float correction1 = 1, correction2 = 1;  // 1 / (1 - beta^step)
};

// The codes of a batch sorted by latent, then token.
struct LatentPairs {
  const std::uint32_t* begin = nullptr;  // [latents + 1]
  const std::uint32_t* token = nullptr;
  const float* value = nullptr;
  const float* gradient = nullptr;  // [tokens, stride]
};

// Weights with Adam's first and second moments, all of the same shape.
struct Moments {
  float* w = nullptr;
  float* m = nullptr;
  float* v = nullptr;
};

struct SaeUpdateArgs {
  std::size_t stride = 0;  // floats a row everywhere; a multiple of 16, zeros beyond the width
  const LatentPairs* parts = nullptr;
  std::size_t part_count = 0;
  const float* x = nullptr;  // x' [tokens, stride]
  Moments encoder, decoder;  // [latents, stride]
  Moments bias;              // [latents]
  AdamStep adam;
  // For checks: where set, gradients are written here (same shapes) and nothing is updated.
  float* encoder_gradient = nullptr;
  float* decoder_gradient = nullptr;
  float* bias_gradient = nullptr;
};

// Latents [begin, end) on one thread. centre_gradient [stride] += sum_l db_enc[l] W_enc[l] (W_enc before the
// step); scratch: 2 * stride floats.
using SaeUpdateKernel = void (*)(const SaeUpdateArgs& args, std::size_t begin, std::size_t end,
                                 float* centre_gradient, float* scratch);

// Adam on a plain array of n values.
using AdamKernel = void (*)(const Moments& moments, const float* gradient, std::size_t n,
                            const AdamStep& step);

struct SaeUpdateKernels {
  SaeUpdateKernel update;
  AdamKernel adam;
};
const Variants<SaeUpdateKernels>& sae_update_variants();

}  // namespace personascope
