#include "native/sae/trainer.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/check_finite.h"
#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "native/kernels/decode/decode.h"

namespace personascope {

namespace {

constexpr std::size_t kRowBlock = 64;     // rows whose sums are taken together, whatever the threads
constexpr std::size_t kLatentBlock = 64;  // the same for latents

void grow(AlignedBuffer<float>& buffer, std::size_t size) {
  if (buffer.size() < size) buffer = AlignedBuffer<float>(size);
}

// Sum over rows of f(row), fp64, in fixed blocks added in order.
template <class Row>
double sum_rows(std::size_t rows, const Row& f) {
  std::vector<double> partial((rows + kRowBlock - 1) / kRowBlock, 0.0);
  parallel_for(partial.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t b = begin; b < end; ++b)
      for (std::size_t row = b * kRowBlock; row < std::min(rows, (b + 1) * kRowBlock); ++row)
        partial[b] += f(row);
  });
  double total = 0;
  for (double value : partial) total += value;
  return total;
}

// In eight interleaved fp64 sums: quick without an ISA of its own, the same everywhere.
double squared_length(const float* row, std::size_t n) {
  double sums[8] = {};
  for (std::size_t i = 0; i < n; i += 8)
    for (std::size_t j = 0; j < 8; ++j) sums[j] += static_cast<double>(row[i + j]) * row[i + j];
  return ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]));
}

// out [stride] += the sum of all rows, blocks in order.
void add_rows(const float* values, std::size_t rows, std::size_t stride, AlignedBuffer<float>& partial,
              float* out) {
  const std::size_t blocks = (rows + kRowBlock - 1) / kRowBlock;
  grow(partial, blocks * stride);
  parallel_for(blocks, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t b = begin; b < end; ++b) {
      float* sums = partial.data() + b * stride;
      std::fill_n(sums, stride, 0.0f);
      for (std::size_t row = b * kRowBlock; row < std::min(rows, (b + 1) * kRowBlock); ++row)
        for (std::size_t i = 0; i < stride; ++i) sums[i] += values[row * stride + i];
    }
  });
  for (std::size_t b = 0; b < blocks; ++b)
    for (std::size_t i = 0; i < stride; ++i) out[i] += partial[b * stride + i];
}

std::vector<double> mean_of(const float* x, std::size_t rows, std::size_t width, std::size_t stride) {
  std::vector<double> mean(width, 0.0);
  for (std::size_t row = 0; row < rows; ++row)
    for (std::size_t i = 0; i < width; ++i) mean[i] += x[row * stride + i];
  for (double& value : mean) value /= static_cast<double>(rows);
  return mean;
}

// Weiszfeld's iteration: the point of least summed distance.
std::vector<double> geometric_median(const float* x, std::size_t rows, std::size_t width,
                                     std::size_t stride) {
  std::vector<double> centre = mean_of(x, rows, width, stride), next(width);
  for (int iteration = 0; iteration < 64; ++iteration) {
    std::fill(next.begin(), next.end(), 0.0);
    double weights = 0;
    for (std::size_t row = 0; row < rows; ++row) {
      double squares = 0;
      for (std::size_t i = 0; i < width; ++i) {
        const double difference = x[row * stride + i] - centre[i];
        squares += difference * difference;
      }
      const double weight = 1 / std::max(std::sqrt(squares), 1e-12);
      weights += weight;
      for (std::size_t i = 0; i < width; ++i) next[i] += weight * x[row * stride + i];
    }
    double moved = 0, size = 0;
    for (std::size_t i = 0; i < width; ++i) {
      next[i] /= weights;
      moved += (next[i] - centre[i]) * (next[i] - centre[i]);
      size += next[i] * next[i];
    }
    centre = next;
    if (moved <= 1e-12 * size) break;
  }
  return centre;
}

}  // namespace

void SaeTrainer::Codes::resize(std::size_t tokens, std::size_t codes_a_token) {
  k = codes_a_token;
  indices.resize(tokens * k);
  values.resize(tokens * k);
  counts.resize(tokens);
}

void SaeTrainer::Codes::sort(std::size_t tokens, std::size_t latents) {
  begin.assign(latents + 2, 0);
  std::size_t pairs = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    pairs += counts[t];
    for (std::size_t c = t * k; c < t * k + counts[t]; ++c) ++begin[indices[c] + 2];
  }
  for (std::size_t l = 2; l < begin.size(); ++l) begin[l] += begin[l - 1];
  token.resize(pairs);
  value.resize(pairs);
  // begin[l + 1] runs from the start of latent l to its end.
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t c = t * k; c < t * k + counts[t]; ++c) {
      const std::uint32_t place = begin[indices[c] + 1]++;
      token[place] = static_cast<std::uint32_t>(t);
      value[place] = values[c];
    }
}

SaeTrainer::SaeTrainer(const SaeTrainerOptions& options)
    : options_(options),
      stride_(padded_width(options.width)),
      encoder_(options.latents * stride_),
      decoder_(options.latents * stride_),
      bias_(options.latents),
      decoder_bias_(stride_),
      idle_(options.latents, 0),
      centre_gradient_(stride_) {
  require(options.width >= 1 && options.width <= (std::size_t{1} << 20), ErrorCode::invalid_argument,
          "SAE training: width " + std::to_string(options.width) + ", expected 1 to 1048576");
  require(options.k >= 1 && options.k <= options.latents, ErrorCode::invalid_argument,
          "SAE training: k is " + std::to_string(options.k) + ", expected 1 to " +
              std::to_string(options.latents));
  require(options.aux_k <= options.latents, ErrorCode::invalid_argument,
          "SAE training: auxK is " + std::to_string(options.aux_k) + ", expected at most " +
              std::to_string(options.latents));
  require(options.aux_coefficient >= 0 && std::isfinite(options.aux_coefficient), ErrorCode::invalid_argument,
          "SAE training: the auxiliary coefficient must be a finite number of at least 0");
  require(options.beta1 >= 0 && options.beta1 < 1 && options.beta2 >= 0 && options.beta2 < 1 &&
              options.epsilon > 0,
          ErrorCode::invalid_argument, "SAE training: betas must lie in [0, 1), epsilon above 0");
  // Decoder vectors: random directions of unit length; the encoder starts as their transpose.
  for (std::size_t l = 0; l < options.latents; ++l) {
    const Philox random(options.seed, l);
    std::vector<double> row(options.width);
    double squares = 0;
    for (std::size_t i = 0; i < options.width; ++i) {
      row[i] = random.gaussian(i);
      squares += row[i] * row[i];
    }
    for (std::size_t i = 0; i < options.width; ++i)
      encoder_.w[l * stride_ + i] = decoder_.w[l * stride_ + i] =
          static_cast<float>(row[i] / std::sqrt(squares));
  }
  weights_ =
      EncoderWeights(encoder_.w.data(), stride_, bias_.w.data(), nullptr, options.latents, options.width);
}

void SaeTrainer::start(const float* x, std::size_t tokens, std::size_t stride) {
  if (started_) return;
  const auto centre = options_.bias_start == DecoderBiasStart::mean
                          ? mean_of(x, tokens, options_.width, stride)
                          : geometric_median(x, tokens, options_.width, stride);
  double length = 0;
  for (std::size_t t = 0; t < tokens; ++t) {
    double squares = 0;
    for (std::size_t i = 0; i < options_.width; ++i) {
      const double difference = x[t * stride + i] - centre[i];
      squares += difference * difference;
    }
    length += std::sqrt(squares);
  }
  require(length > 0, ErrorCode::invalid_argument,
          "SAE training: all activations of the first batch are equal");
  scale_ = std::sqrt(static_cast<double>(options_.width)) * static_cast<double>(tokens) / length;
  for (std::size_t i = 0; i < options_.width; ++i)
    decoder_bias_.w[i] = static_cast<float>(centre[i] * scale_);
  started_ = true;
}

double SaeTrainer::forward(const float* x, std::size_t tokens, std::size_t stride, SaeStepReport& report) {
  require(tokens >= 1 && tokens < (std::size_t{1} << 32), ErrorCode::invalid_argument,
          "SAE training: a batch of " + std::to_string(tokens) + " tokens");
  require(stride >= options_.width, ErrorCode::invalid_argument,
          "SAE training: rows of " + std::to_string(stride) + " values, expected " +
              std::to_string(options_.width));
  check_finite("activations", x, tokens, options_.width, stride);
  start(x, tokens, stride);
  const std::size_t d = options_.width, padded = stride_;
  grow(x_, tokens * padded);
  grow(gradient_, tokens * padded);
  const float scale = static_cast<float>(scale_);
  parallel_for(tokens, 32, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      float* row = x_.data() + t * padded;
      for (std::size_t i = 0; i < d; ++i) row[i] = x[t * stride + i] * scale - decoder_bias_.w[i];
      std::fill(row + d, row + padded, 0.0f);
    }
  });

  weights_.refresh();
  codes_.resize(tokens, options_.k);
  EncodeArgs encoding;
  encoding.encoder = &weights_;
  encoding.x = x_.data();
  encoding.tokens = tokens;
  encoding.x_stride = padded;
  encoding.k = options_.k;
  encoding.indices = codes_.indices.data();
  encoding.values = codes_.values.data();
  encoding.counts = codes_.counts.data();
  encode(encoding);

  DecodeArgs decoding;
  decoding.codes = codes_.view(tokens);
  decoding.weights = decoder_.w.data();
  decoding.latents = options_.latents;
  decoding.width = decoding.stride = decoding.out_stride = padded;
  decoding.out = gradient_.data();
  decode(decoding);
  // x_hat - x, and how far the batch varies: sum |x - mean|^2 = sum |x'|^2 - tokens |mean x'|^2.
  std::vector<float> mean(padded, 0.0f);
  add_rows(x_.data(), tokens, padded, partial_, mean.data());
  for (float& value : mean) value /= static_cast<float>(tokens);
  const double variance = sum_rows(tokens, [&](std::size_t t) {
    const float* row = x_.data() + t * padded;
    double squares = 0;
    for (std::size_t i = 0; i < padded; ++i) {
      const double difference = static_cast<double>(row[i]) - mean[i];
      squares += difference * difference;
    }
    return squares;
  });
  const double error = sum_rows(tokens, [&](std::size_t t) {
    float* row = gradient_.data() + t * padded;
    for (std::size_t i = 0; i < padded; ++i) row[i] -= x_[t * padded + i];
    return squared_length(row, padded);
  });
  // A batch of one token, or of equal ones, has no variance: its own size stands in.
  const double size = variance > 0 ? variance : std::max(1.0, error);
  std::size_t active = 0;
  for (std::size_t t = 0; t < tokens; ++t) active += codes_.counts[t];
  report.fvu = error / size;
  report.l0 = static_cast<double>(active) / static_cast<double>(tokens);
  codes_.sort(tokens, options_.latents);
  const double auxiliary = forward_dead(tokens, size, error, report);
  const float slope = static_cast<float>(2 / size);
  parallel_for(tokens * padded, 16384, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) gradient_[i] *= slope;
  });
  parts_.clear();
  parts_.push_back({codes_.begin.data(), codes_.token.data(), codes_.value.data(), gradient_.data()});
  if (!dead_.empty())
    parts_.push_back({dead_codes_.begin.data(), dead_codes_.token.data(), dead_codes_.value.data(),
                      dead_gradient_.data()});
  return error / size + auxiliary;
}

// The auxiliary loss; gradient_ still holds x_hat - x = -e.
double SaeTrainer::forward_dead(std::size_t tokens, double variance, double error, SaeStepReport& report) {
  dead_.clear();
  if (options_.aux_k == 0 || options_.aux_coefficient == 0) return 0;
  for (std::size_t l = 0; l < options_.latents; ++l)
    if (idle_[l] >= options_.dead_after_tokens && codes_.begin[l] == codes_.begin[l + 1])
      dead_.push_back(static_cast<std::uint32_t>(l));
  if (dead_.empty()) return 0;
  const std::size_t padded = stride_, k = std::min(options_.aux_k, dead_.size());
  grow(dead_encoder_, dead_.size() * padded);
  grow(dead_bias_, dead_.size());
  grow(dead_gradient_, tokens * padded);
  for (std::size_t i = 0; i < dead_.size(); ++i) {
    std::copy_n(encoder_.w.data() + dead_[i] * padded, padded, dead_encoder_.data() + i * padded);
    dead_bias_[i] = bias_.w[dead_[i]];
  }
  const EncoderWeights weights(dead_encoder_.data(), padded, dead_bias_.data(), nullptr, dead_.size(),
                               options_.width);
  dead_codes_.resize(tokens, k);
  EncodeArgs encoding;
  encoding.encoder = &weights;
  encoding.x = x_.data();
  encoding.tokens = tokens;
  encoding.x_stride = padded;
  encoding.k = k;
  encoding.indices = dead_codes_.indices.data();
  encoding.values = dead_codes_.values.data();
  encoding.counts = dead_codes_.counts.data();
  encode(encoding);
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t c = t * k; c < t * k + dead_codes_.counts[t]; ++c)
      dead_codes_.indices[c] = dead_[dead_codes_.indices[c]];

  DecodeArgs decoding;
  decoding.codes = dead_codes_.view(tokens);
  decoding.weights = decoder_.w.data();
  decoding.latents = options_.latents;
  decoding.width = decoding.stride = decoding.out_stride = padded;
  decoding.out = dead_gradient_.data();
  decode(decoding);
  const double share = std::min(1.0, static_cast<double>(dead_.size()) / static_cast<double>(options_.aux_k));
  const double factor = options_.aux_coefficient * share;
  const float slope = static_cast<float>(2 * factor / variance);
  const double left = sum_rows(tokens, [&](std::size_t t) {
    float* row = dead_gradient_.data() + t * padded;
    for (std::size_t i = 0; i < padded; ++i) row[i] += gradient_[t * padded + i];  // e_hat - e
    const double squares = squared_length(row, padded);
    for (std::size_t i = 0; i < padded; ++i) row[i] *= slope;
    return squares;
  });
  report.aux_fvu = error > 0 ? left / error : 0;
  dead_codes_.sort(tokens, options_.latents);
  return factor * left / variance;
}

SaeUpdateArgs SaeTrainer::update_args() {
  SaeUpdateArgs args;
  args.stride = stride_;
  args.parts = parts_.data();
  args.part_count = parts_.size();
  args.x = x_.data();
  args.encoder = encoder_.moments();
  args.decoder = decoder_.moments();
  args.bias = bias_.moments();
  return args;
}

void SaeTrainer::backward(const SaeUpdateArgs& args, std::size_t tokens) {
  const SaeUpdateKernel update = sae_update_variants().active().update;
  const std::size_t blocks = (options_.latents + kLatentBlock - 1) / kLatentBlock, padded = stride_;
  // Per block of latents a partial gradient of the centre, added in order.
  AlignedBuffer<float> sums(blocks * padded);
  parallel_for(blocks, 1, [&](std::size_t begin, std::size_t end) {
    AlignedBuffer<float> scratch(2 * padded);
    for (std::size_t b = begin; b < end; ++b)
      update(args, b * kLatentBlock, std::min(options_.latents, (b + 1) * kLatentBlock),
             sums.data() + b * padded, scratch.data());
  });
  // x_hat holds b_dec itself; x' = x - b_dec reaches the loss through every pre-activation.
  std::fill_n(centre_gradient_.data(), padded, 0.0f);
  add_rows(gradient_.data(), tokens, padded, partial_, centre_gradient_.data());
  for (std::size_t b = 0; b < blocks; ++b)
    for (std::size_t i = 0; i < padded; ++i) centre_gradient_[i] -= sums[b * padded + i];
}

SaeStepReport SaeTrainer::step(const float* x, std::size_t tokens, std::size_t stride, double learning_rate) {
  require(std::isfinite(learning_rate) && learning_rate >= 0, ErrorCode::invalid_argument,
          "SAE training: learning rate " + std::to_string(learning_rate) +
              ", expected a finite number of at least 0");
  SaeStepReport report;
  forward(x, tokens, stride, report);
  ++steps_;
  tokens_ += tokens;
  SaeUpdateArgs args = update_args();
  args.adam.rate = static_cast<float>(learning_rate);
  args.adam.beta1 = static_cast<float>(options_.beta1);
  args.adam.beta2 = static_cast<float>(options_.beta2);
  args.adam.epsilon = static_cast<float>(options_.epsilon);
  args.adam.correction1 = static_cast<float>(1 / (1 - std::pow(options_.beta1, static_cast<double>(steps_))));
  args.adam.correction2 = static_cast<float>(1 / (1 - std::pow(options_.beta2, static_cast<double>(steps_))));
  backward(args, tokens);
  sae_update_variants().active().adam(decoder_bias_.moments(), centre_gradient_.data(), stride_, args.adam);

  std::size_t dead = 0;
  for (std::size_t l = 0; l < options_.latents; ++l) {
    idle_[l] = codes_.begin[l] < codes_.begin[l + 1] ? 0 : idle_[l] + tokens;
    dead += idle_[l] > 0 && idle_[l] >= options_.dead_after_tokens;
  }
  report.step = steps_;
  report.tokens = tokens_;
  report.dead_share = static_cast<double>(dead) / static_cast<double>(options_.latents);
  return report;
}

SaeGradients SaeTrainer::gradients(const float* x, std::size_t tokens, std::size_t stride) {
  SaeGradients out;
  SaeStepReport report;
  out.loss = forward(x, tokens, stride, report);
  out.encoder = AlignedBuffer<float>(options_.latents * stride_);
  out.decoder = AlignedBuffer<float>(options_.latents * stride_);
  out.bias = AlignedBuffer<float>(options_.latents);
  out.decoder_bias = AlignedBuffer<float>(stride_);
  SaeUpdateArgs args = update_args();
  args.encoder_gradient = out.encoder.data();
  args.decoder_gradient = out.decoder.data();
  args.bias_gradient = out.bias.data();
  backward(args, tokens);
  std::copy_n(centre_gradient_.data(), stride_, out.decoder_bias.data());
  return out;
}

Sae SaeTrainer::result() const {
  const std::size_t n = options_.latents, d = options_.width;
  std::vector<float> w_enc(n * d), w_dec(n * d), b_enc(n), b_dec(d);
  for (std::size_t l = 0; l < n; ++l) {
    std::copy_n(encoder_.w.data() + l * stride_, d, w_enc.data() + l * d);
    std::copy_n(decoder_.w.data() + l * stride_, d, w_dec.data() + l * d);
    b_enc[l] = static_cast<float>(bias_.w[l] / scale_);
  }
  for (std::size_t i = 0; i < d; ++i) b_dec[i] = static_cast<float>(decoder_bias_.w[i] / scale_);
  return Sae(topk_spec(n, d, options_.k, true, w_enc.data(), EncoderLayout::latent_major, w_dec.data(),
                       b_enc.data(), b_dec.data()));
}

}  // namespace personascope
