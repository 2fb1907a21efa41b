#include "native/sae/sae.h"

#include <algorithm>
#include <string>

#include "native/core/check_finite.h"
#include "native/core/thread_pool.h"
#include "native/kernels/decode/decode.h"

namespace personascope {

namespace {

// out [columns, out_stride] = in [rows, columns] transposed, in squares that stay in the cache.
void transpose(const float* in, std::size_t rows, std::size_t columns, std::size_t in_stride, float* out,
               std::size_t out_stride) {
  constexpr std::size_t kSquare = 32;
  parallel_for((columns + kSquare - 1) / kSquare, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t block = begin; block < end; ++block)
      for (std::size_t r0 = 0; r0 < rows; r0 += kSquare)
        for (std::size_t c = block * kSquare; c < std::min(columns, (block + 1) * kSquare); ++c)
          for (std::size_t r = r0; r < std::min(rows, r0 + kSquare); ++r)
            out[c * out_stride + r] = in[r * in_stride + c];
  });
}

void check_config(const SaeConfig& config) {
  require(config.architecture == SaeArchitecture::topk, ErrorCode::invalid_argument,
          "SAE: unknown architecture");
  require(config.width >= 1 && config.width <= (std::size_t{1} << 20), ErrorCode::invalid_argument,
          "SAE: width " + std::to_string(config.width) + ", expected 1 to 1048576");
  require(config.latents >= 1 && config.latents < (std::size_t{1} << 32), ErrorCode::invalid_argument,
          "SAE: " + std::to_string(config.latents) + " latents, expected 1 to 4294967295");
  require(config.k >= 1 && config.k <= config.latents, ErrorCode::invalid_argument,
          "SAE: k is " + std::to_string(config.k) + ", expected 1 to " + std::to_string(config.latents));
}

}  // namespace

Sae::Sae(const SaeConfig& config, const float* w_enc, EncoderLayout layout, const float* w_dec,
         const float* b_enc, const float* b_dec)
    : config_(config) {
  check_config(config);
  const std::size_t n = config.latents, d = config.width;
  stride_ = padded_width(d);
  w_enc_ = AlignedBuffer<float>(n * stride_);
  w_dec_ = AlignedBuffer<float>(n * stride_);
  b_enc_ = AlignedBuffer<float>(n);
  b_dec_ = AlignedBuffer<float>(stride_);
  if (layout == EncoderLayout::width_major)
    transpose(w_enc, d, n, n, w_enc_.data(), stride_);
  else
    for (std::size_t l = 0; l < n; ++l) std::copy_n(w_enc + l * d, d, w_enc_.data() + l * stride_);
  for (std::size_t l = 0; l < n; ++l) std::copy_n(w_dec + l * d, d, w_dec_.data() + l * stride_);
  std::copy_n(b_enc, n, b_enc_.data());
  std::copy_n(b_dec, d, b_dec_.data());
  check_finite("W_dec", w_dec_.data(), n, d, stride_);
  check_finite("b_dec", b_dec_.data(), 1, d, d);
  encoder_ = EncoderWeights(w_enc_.data(), stride_, b_enc_.data(),
                            config.subtract_decoder_bias ? b_dec_.data() : nullptr, n, d);
}

std::size_t Sae::piece() const {
  // About 40 Gflop: a fifth of a second on one core, a dozen blocks of tokens at the least.
  const double tokens = 2e10 / (static_cast<double>(config_.latents) * static_cast<double>(stride_));
  return std::clamp<std::size_t>(static_cast<std::size_t>(tokens), 3072, 65536);
}

void Sae::encode_piece(const float* x, std::size_t first, std::size_t tokens, std::size_t stride,
                       const std::function<void()>& check, std::uint32_t* indices, float* values,
                       std::uint32_t* counts) const {
  EncodeArgs args;
  args.encoder = &encoder_;
  args.x = x + first * stride;
  args.tokens = tokens;
  args.x_stride = stride;
  args.k = config_.k;
  args.indices = indices;
  args.values = values;
  args.counts = counts;
  args.first_token = first;
  args.check = check;
  personascope::encode(args);
}

SparseCodes Sae::encode(const float* x, std::size_t tokens, std::size_t stride, const TokenProgress& progress,
                        const std::function<void()>& check) const {
  const std::size_t k = config_.k;
  require(tokens <= 0xFFFFFFFFu / k, ErrorCode::invalid_argument,
          "encode: " + std::to_string(tokens) + " tokens x " + std::to_string(k) +
              " codes do not fit 32-bit offsets; encode in smaller batches");
  SparseCodes codes;
  codes.tokens = tokens;
  codes.latents = config_.latents;
  codes.indices.resize(tokens * k);
  codes.values.resize(tokens * k);
  codes.offsets.assign(tokens + 1, 0);
  std::vector<std::uint32_t> counts(std::min(tokens, piece()));
  std::size_t used = 0;
  for (std::size_t first = 0; first < tokens; first += counts.size()) {
    const std::size_t count = std::min(counts.size(), tokens - first);
    encode_piece(x, first, count, stride, check, codes.indices.data() + first * k,
                 codes.values.data() + first * k, counts.data());
    // Tokens with fewer than k codes: close the gaps.
    for (std::size_t t = 0; t < count; ++t) {
      const std::size_t from = (first + t) * k;
      if (from != used) {
        std::copy_n(codes.indices.data() + from, counts[t], codes.indices.data() + used);
        std::copy_n(codes.values.data() + from, counts[t], codes.values.data() + used);
      }
      used += counts[t];
      codes.offsets[first + t + 1] = static_cast<std::uint32_t>(used);
    }
    if (progress) progress(first + count);
  }
  codes.indices.resize(used);
  codes.values.resize(used);
  return codes;
}

void Sae::encode_to(const float* x, std::size_t tokens, std::size_t stride, std::uint32_t* indices,
                    float* values, std::uint32_t* counts) const {
  encode_piece(x, 0, tokens, stride, {}, indices, values, counts);
}

void Sae::encode_into(LatentStats& stats, const float* x, std::size_t tokens, std::size_t stride,
                      const std::uint32_t* groups, const double* ids, const TokenProgress& progress,
                      const std::function<void()>& check) const {
  require(stats.options().latents == config_.latents, ErrorCode::invalid_argument,
          "statistics of " + std::to_string(stats.options().latents) + " latents cannot take codes of " +
              std::to_string(config_.latents));
  const std::size_t k = config_.k, most = std::min(tokens, piece());
  std::vector<std::uint32_t> indices(most * k), counts(most);
  std::vector<float> values(most * k);
  for (std::size_t first = 0; first < tokens; first += most) {
    const std::size_t count = std::min(most, tokens - first);
    encode_piece(x, first, count, stride, check, indices.data(), values.data(), counts.data());
    stats.add({count, indices.data(), values.data(), nullptr, k, counts.data()},
              groups ? groups + first : nullptr, ids ? ids + first : nullptr);
    if (progress) progress(first + count);
  }
}

void Sae::decode(const CodesView& codes, float* out) const {
  DecodeArgs args;
  args.codes = codes;
  args.weights = w_dec_.data();
  args.latents = config_.latents;
  args.width = config_.width;
  args.stride = stride_;
  args.bias = b_dec_.data();
  args.out = out;
  args.out_stride = config_.width;
  personascope::decode(args);
}

void Sae::pre_activations(const float* x, std::size_t tokens, std::size_t stride,
                          const std::uint32_t* latents, std::size_t count, float* out) const {
  personascope::pre_activations(encoder_, x, tokens, stride, latents, count, out);
}

const float* Sae::decoder_vector(std::size_t latent) const {
  if (latent >= config_.latents)
    fail(ErrorCode::invalid_argument,
         "latent " + std::to_string(latent) + ": the SAE has " + std::to_string(config_.latents));
  return w_dec_.data() + latent * stride_;
}

const float* Sae::encoder_vector(std::size_t latent) const {
  if (latent >= config_.latents)
    fail(ErrorCode::invalid_argument,
         "latent " + std::to_string(latent) + ": the SAE has " + std::to_string(config_.latents));
  return w_enc_.data() + latent * stride_;
}

void Sae::copy_encoder(EncoderLayout layout, float* out) const {
  if (layout == EncoderLayout::width_major) {
    transpose(w_enc_.data(), config_.latents, config_.width, stride_, out, config_.latents);
    return;
  }
  for (std::size_t l = 0; l < config_.latents; ++l)
    std::copy_n(w_enc_.data() + l * stride_, config_.width, out + l * config_.width);
}

void Sae::copy_decoder(float* out) const {
  for (std::size_t l = 0; l < config_.latents; ++l)
    std::copy_n(w_dec_.data() + l * stride_, config_.width, out + l * config_.width);
}

}  // namespace personascope
