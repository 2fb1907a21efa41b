#include "native/sae/sae.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>

#include "native/core/check_finite.h"
#include "native/core/lost_pages.h"
#include "native/core/thread_pool.h"
#include "native/kernels/encode/int8_copy.h"
#include "native/kernels/gemm/gemm.h"

namespace personascope {

namespace {

SaeSpec checked(SaeSpec spec) {
  if (spec.out_width == 0) spec.out_width = spec.width;
  check_spec(spec);
  if (spec.rule == SelectionRule::threshold && spec.threshold.size() == 1)
    spec.threshold.assign(spec.latents, spec.threshold[0]);
  return spec;
}

std::optional<Precision> precision_of_environment() {
  const char* wanted = std::getenv("PERSONASCOPE_PRECISION");
  if (!wanted || !*wanted || std::strcmp(wanted, "auto") == 0) return std::nullopt;
  for (const Precision precision : {Precision::fp32, Precision::bf16, Precision::int8})
    if (std::strcmp(wanted, precision_name(precision)) == 0) return precision;
  fail(ErrorCode::invalid_argument,
       std::string("PERSONASCOPE_PRECISION is '") + wanted + "', expected auto, fp32, bf16 or int8");
}

constexpr std::size_t kTeachingTokens = 32;  // a mean of fewer says little
constexpr std::size_t kSample = 256;

// The median of each dimension of x - centre over a sample of tokens: the mean would follow a few first
// tokens of sequences, which lie far from all others.
std::vector<float> typical_input(const float* x, std::size_t tokens, std::size_t stride, std::size_t width,
                                 const float* centre) {
  const std::size_t count = std::min(tokens, kSample);
  std::vector<float> middle(width), column(count);
  for (std::size_t i = 0; i < width; ++i) {
    for (std::size_t t = 0; t < count; ++t) column[t] = x[t * tokens / count * stride + i];
    const auto half = column.begin() + static_cast<std::ptrdiff_t>(count / 2);
    std::nth_element(column.begin(), half, column.end());
    middle[i] = *half - (centre ? centre[i] : 0.0f);
    if (!std::isfinite(middle[i])) middle[i] = 0;  // encoding tells where
  }
  return middle;
}

// Mean distance of x - centre from `middle` (or 0) over that sample.
double spread(const float* x, std::size_t tokens, std::size_t stride, std::size_t width, const float* centre,
              const float* middle) {
  const std::size_t count = std::min(tokens, kSample);
  double sum = 0;
  for (std::size_t t = 0; t < count; ++t) {
    double squares = 0;
    for (std::size_t i = 0; i < width; ++i) {
      const double value = static_cast<double>(x[t * tokens / count * stride + i]) -
                           (centre ? centre[i] : 0.0f) - (middle ? middle[i] : 0.0f);
      squares += value * value;
    }
    sum += std::sqrt(squares);
  }
  return sum / static_cast<double>(count);
}

// Codes to k places a token.
void scatter(const SparseCodes& codes, std::size_t k, std::uint32_t* indices, float* values,
             std::uint32_t* counts) {
  require(k > 0, ErrorCode::invalid_argument,
          "encode: this selection rule gives any number of codes; k places a token cannot hold them");
  for (std::size_t t = 0; t < codes.tokens; ++t) {
    const std::size_t begin = codes.offsets[t], size = codes.offsets[t + 1] - begin;
    std::copy_n(codes.indices.data() + begin, size, indices + t * k);
    std::copy_n(codes.values.data() + begin, size, values + t * k);
    counts[t] = static_cast<std::uint32_t>(size);
  }
}

}  // namespace

// Where the codes of some tokens go.
struct Sae::Piece {
  std::uint32_t* indices = nullptr;  // k places a token
  float* values = nullptr;
  std::uint32_t* counts = nullptr;
  std::vector<Code>* codes = nullptr;  // or a list a token
  std::vector<float> input, means, scales;
  EncodeReport report;
};

namespace {

// Puts `count` lists behind the codes, which are to be those of `tokens` tokens in the end. Throws
// invalid_argument where the pairs do not fit 32-bit offsets.
void append(const std::vector<Code>* lists, std::size_t count, std::size_t tokens, SparseCodes& codes) {
  std::size_t pairs = codes.indices.size();
  for (std::size_t t = 0; t < count; ++t) {
    pairs += lists[t].size();
    if (pairs > 0xFFFFFFFFu)
      fail(ErrorCode::invalid_argument, "encode: the codes of " + std::to_string(tokens) +
                                            " tokens do not fit 32-bit offsets; encode in smaller batches");
    codes.offsets.push_back(static_cast<std::uint32_t>(pairs));
  }
  if (codes.indices.empty()) {  // as many a token from here on, about
    codes.indices.reserve(count == tokens ? pairs : pairs / count * tokens);
    codes.values.reserve(codes.indices.capacity());
  }
  for (std::size_t t = 0; t < count; ++t)
    for (const Code& code : lists[t]) {
      codes.indices.push_back(code.latent);
      codes.values.push_back(code.value);
    }
}

}  // namespace

Sae::Sae(SaeSpec spec)
    : spec_(checked(std::move(spec))),
      w_enc_(std::move(spec_.w_enc)),
      w_dec_(std::move(spec_.w_dec)),
      skip_(spec_.w_skip.data ? std::make_unique<WeightRows>(std::move(spec_.w_skip)) : nullptr) {
  spec_.w_enc = spec_.w_dec = spec_.w_skip = Tensor();
  if (spec_.device.cuda) device_ = std::make_unique<DeviceSae>(spec_.device);
}

InputTransform Sae::transform() const {
  return {spec_.width, spec_.input_norm, spec_.scale.empty() ? nullptr : spec_.mean.data(),
          spec_.scale.empty() ? nullptr : spec_.scale.data()};
}

std::size_t Sae::bytes() const {
  return w_enc_.bytes() + w_dec_.bytes() + (skip_ ? skip_->bytes() : 0) + 12 * spec_.latents;
}

const float* Sae::selection_scale(const std::function<void()>& check) const {
  const DecoderScale& by_decoder = spec_.decoder_scale;
  if (!by_decoder.any()) return spec_.selection_scale.empty() ? nullptr : spec_.selection_scale.data();
  if (!decoder_scale_.empty()) return decoder_scale_.data();
  const MappedReads reads;
  std::vector<float> norms(spec_.latents), scale(spec_.latents);
  std::vector<double> squares(spec_.latents), sums(spec_.latents);
  for (std::size_t layer = 0; layer < w_dec_.layers(); ++layer) {
    const Tensor& vectors = w_dec_.layer(layer);
    row_norms(vectors, norms.data(), [&](std::uint64_t) {
      if (check) check();
    });
    for (std::size_t l = 0; l < norms.size(); ++l) {
      const double norm = norms[l];
      if (!std::isfinite(norm))
        fail(ErrorCode::non_finite, vectors.name + ": the decoder vector of latent " + std::to_string(l) +
                                        " has norm " + std::to_string(norm));
      squares[l] += norm * norm;
      sums[l] += norm;
    }
  }
  for (std::size_t l = 0; l < scale.size(); ++l)
    scale[l] = static_cast<float>(by_decoder.joined * std::sqrt(squares[l]) + by_decoder.added * sums[l]);
  reads.check();
  decoder_scale_ = std::move(scale);
  return decoder_scale_.data();
}

const EncoderWeights& Sae::ready_encoder(const std::function<void()>& check) const {
  const std::lock_guard lock(mutex_);
  if (encoder_.rows.data) return encoder_;
  open_cache(check);
  const RowView& rows = w_enc_.view(check);
  Selection selection;
  selection.rule = spec_.rule;
  selection.scaled_codes = spec_.scaled_codes;
  const auto data = [](const std::vector<float>& values) { return values.empty() ? nullptr : values.data(); };
  selection.scale = selection_scale(check);
  selection.threshold = data(spec_.threshold);
  selection.gate_bias = data(spec_.gate_bias);
  selection.magnitude_scale = data(spec_.magnitude_scale);
  selection.magnitude_bias = data(spec_.magnitude_bias);
  const bool gated = spec_.rule == SelectionRule::gated;
  encoder_ = EncoderWeights(rows, gated ? spec_.gate_bias.data() : spec_.b_enc.data(),
                            spec_.subtract_decoder_bias ? spec_.b_dec.data() : nullptr, selection);
  encoder_.name = w_enc_.source().name.c_str();
  return encoder_;
}

std::optional<Precision> Sae::device_precision(const std::optional<Precision>& wanted) const {
  if (wanted || spec_.precision) return wanted ? wanted : spec_.precision;
  const std::optional<Precision> environment = precision_of_environment();
  // fp32 there is for encoders of the CPU.
  return environment == Precision::fp32 ? std::nullopt : environment;
}

Precision Sae::choose(const std::optional<Precision>& wanted) const {
  const auto given = wanted ? wanted : spec_.precision ? spec_.precision : precision_of_environment();
  const bool int8_holds = padded_width(spec_.width) <= kMostInt8Width;
  if (given) return *given == Precision::int8 && !int8_holds ? Precision::fp32 : *given;
  // A small encoder is quicker read than copied.
  if (spec_.latents < 4096 || spec_.latents * spec_.width < (std::size_t{1} << 22)) return Precision::fp32;
  const std::lock_guard lock(mutex_);
  const auto pays = [&](Precision precision) {
    return !screenings_[static_cast<std::size_t>(precision)].loose;
  };
  if (int8_holds && pays(Precision::int8)) return Precision::int8;
  return multiplies_bf16() && pays(Precision::bf16) ? Precision::bf16 : Precision::fp32;
}

std::shared_ptr<const Screen> Sae::screen(Precision precision, const float* x, std::size_t tokens,
                                          std::size_t stride, const ScreenHooks& hooks) const {
  const EncoderWeights& encoder = ready_encoder(hooks.check);
  const std::lock_guard lock(mutex_);
  const MappedReads reads;
  Screening& state = screenings_[static_cast<std::size_t>(precision)];
  if (!state.screen && precision == Precision::int8 && cache_ && cache_->complete()) {
    const std::shared_ptr<const Screen> kept = cached_screen(encoder);
    reads.check();
    state.screen = kept;
    state.taught = state.screen->mean.size() > 0;
  }
  const bool teaches = precision != Precision::fp32 && tokens >= kTeachingTokens;
  if (state.screen && (state.taught || !teaches)) return state.screen;
  std::vector<float> middle;
  if (teaches) {
    middle = typical_input(x, tokens, stride, encoder.width, encoder.centre);
    // Turning to another mean reads all weights: only for much shorter tokens.
    const float* now = state.screen && state.screen->mean.size() ? state.screen->mean.data() : nullptr;
    const double before = spread(x, tokens, stride, encoder.width, encoder.centre, now);
    const double after = spread(x, tokens, stride, encoder.width, encoder.centre, middle.data());
    state.taught = true;
    if (!(after < 0.8 * before)) {
      if (state.screen) return state.screen;
      middle.clear();
    }
  }
  const float* mean = middle.empty() ? nullptr : middle.data();
  const auto copy = state.screen ? state.screen->copy : nullptr;
  const bool keep = precision == Precision::int8 && cache_ && !cache_->complete();
  const auto room = keep ? std::make_shared<Int8Copy>(spec_.latents, padded_width(spec_.width), cache_,
                                                      cache_->section(PreparedSection::panels))
                         : nullptr;
  const std::shared_ptr<const Screen> made = make_screen(encoder, precision, mean, hooks, copy, room);
  reads.check();
  state.screen = made;
  if (keep) write_cache(*state.screen);
  return state.screen;
}

void Sae::open_cache(const std::function<void()>& check) const {
  if (spec_.cache.empty() || cache_) return;
  const std::size_t n = spec_.latents, padded = padded_width(spec_.width);
  if (padded > kMostInt8Width) return;
  const bool copies = w_enc_.must_copy();
  const PreparedFile::Sizes sizes = {
      Int8Copy::bytes(n, padded),           4 * n, 4 * n, 4 * n, 4 * padded, 8 * n,
      copies ? n * w_enc_.copy_stride() : 0};
  const std::uint64_t identity = source_identity(w_enc_.source(), spec_.cache_identity);
  cache_ = PreparedFile::open(spec_.cache, identity, sizes);
  if (!cache_ && device_) return;  // a GPU's encoder would never fill it
  if (!cache_) cache_ = PreparedFile::create(spec_.cache, identity, sizes);
  try {
    if (copies) w_enc_.use(cache_, cache_->section(PreparedSection::rows), cache_->complete(), check);
  } catch (...) {
    cache_ = nullptr;
    throw;
  }
}

std::shared_ptr<const Screen> Sae::cached_screen(const EncoderWeights& encoder) const {
  const std::size_t n = spec_.latents, padded = padded_width(spec_.width);
  auto copy = std::make_shared<Int8Copy>(n, padded, cache_, cache_->section(PreparedSection::panels));
  const auto read = [&](PreparedSection section, AlignedBuffer<float>& values) {
    std::memcpy(values.data(), cache_->section(section), 4 * n);
  };
  read(PreparedSection::scale, copy->scale);
  read(PreparedSection::residual, copy->residual);
  read(PreparedSection::norm, copy->norm);
  // A mean of zeros stands for none.
  const float* mean = reinterpret_cast<const float*>(cache_->section(PreparedSection::mean));
  const bool centred = std::any_of(mean, mean + padded, [](float value) { return value != 0; });
  return make_screen(
      encoder, copy, centred ? mean : nullptr,
      centred ? reinterpret_cast<const double*>(cache_->section(PreparedSection::mean_product)) : nullptr);
}

void Sae::write_cache(const Screen& screen) const {
  const auto write = [&](PreparedSection section, const auto& values) {
    std::memcpy(cache_->section(section), values.data(), values.size() * sizeof(*values.data()));
  };
  write(PreparedSection::scale, screen.copy->scale);
  write(PreparedSection::residual, screen.copy->residual);
  write(PreparedSection::norm, screen.copy->norm);
  if (screen.mean.size()) {
    write(PreparedSection::mean, screen.mean);
    write(PreparedSection::mean_product, screen.mean_product);
  }
  cache_->commit();
}

void Sae::prepare(std::optional<Precision> precision, const float* calibration, std::size_t tokens,
                  const ScreenHooks& hooks) const {
  const InputTransform inputs = transform();
  std::vector<float> input, scratch(2 * tokens);
  if (inputs.any() && tokens > 0) {
    input.resize(tokens * spec_.width);
    inputs.apply(calibration, tokens, spec_.width, 0, input.data(), scratch.data(), scratch.data() + tokens);
    calibration = input.data();
  }
  if (device_) {
    device_->prepare(ready_encoder(hooks.check), {calibration, Place::host, tokens, spec_.width, 0},
                     device_precision(precision), hooks.check);
    if (hooks.progress) hooks.progress(spec_.latents);
    return;
  }
  screen(choose(precision), calibration, tokens, spec_.width, hooks);
}

void Sae::learn(const EncodeReport& report, std::uint64_t codes) const {
  // A rescored latent costs as much as screening some dozens.
  if (report.precision == Precision::fp32 ||
      report.count.rescored <= 4 * codes + report.tokens * (spec_.latents / 64))
    return;
  const std::lock_guard lock(mutex_);
  Screening& state = screenings_[static_cast<std::size_t>(report.precision)];
  // Inputs may have moved away from those that taught the mean.
  if (state.lessons++ == 0)
    state.taught = false;
  else
    state.loose = true;
}

std::size_t Sae::piece(std::size_t tokens) const {
  // About 40 Gflop: a fifth of a second on one core, and eight blocks of tokens at the least.
  const double wanted = 2e10 / (static_cast<double>(spec_.latents) * static_cast<double>(spec_.width));
  const std::size_t most = std::clamp<std::size_t>(static_cast<std::size_t>(wanted), 4096, 65536);
  const std::size_t pieces = std::max<std::size_t>(1, (tokens + most - 1) / most);
  return (tokens + pieces - 1) / pieces;
}

void Sae::encode_piece(const float* x, std::size_t first, std::size_t tokens, std::size_t stride,
                       const EncodeOptions& options, Piece& piece) const {
  const EncoderWeights& encoder = ready_encoder(options.check);
  const InputTransform inputs = transform();
  EncodeArgs args;
  args.encoder = &encoder;
  args.x = x + first * stride;
  args.x_stride = stride;
  args.tokens = tokens;
  if (inputs.any()) {
    piece.input.resize(tokens * spec_.width);
    piece.means.resize(tokens);
    piece.scales.resize(tokens);
    inputs.apply(args.x, tokens, stride, first, piece.input.data(), piece.means.data(), piece.scales.data());
    args.x = piece.input.data();
    args.x_stride = spec_.width;
  }
  const Precision precision = choose(options.precision);
  ScreenHooks hooks;
  hooks.check = options.check;
  const std::shared_ptr<const Screen> made = screen(precision, args.x, tokens, args.x_stride, hooks);
  args.screen = made.get();
  args.k = spec_.k;
  args.indices = piece.indices;
  args.values = piece.values;
  args.counts = piece.counts;
  args.codes = piece.codes;
  args.first_token = first;
  args.check = options.check;
  EncodeReport report{precision, tokens, {}};
  args.count = &report.count;
  personascope::encode(args);
  std::uint64_t codes = 0;
  for (std::size_t t = 0; t < tokens; ++t) codes += piece.codes ? piece.codes[t].size() : piece.counts[t];
  learn(report, codes);
  piece.report.precision = report.precision;
  piece.report.tokens += tokens;
  piece.report.count.screened += report.count.screened;
  piece.report.count.rescored += report.count.rescored;
}

template <class Take>
EncodeReport Sae::each_piece(const float* x, std::size_t tokens, std::size_t stride,
                             const EncodeOptions& options, const Take& take) const {
  std::vector<std::vector<Code>> lists(piece(tokens));
  Piece piece;
  piece.codes = lists.data();
  for (std::size_t first = 0; first < tokens; first += lists.size()) {
    const std::size_t count = std::min(lists.size(), tokens - first);
    const MappedReads reads;
    encode_piece(x, first, count, stride, options, piece);
    reads.check();
    take(first, count, piece);
    if (options.progress) options.progress(first + count);
  }
  return piece.report;
}

SparseCodes Sae::encode(const float* x, std::size_t tokens, std::size_t stride,
                        const EncodeOptions& options) const {
  if (device_) return encode(host_rows(x, tokens, spec_.width, stride), options);
  SparseCodes codes;
  codes.tokens = tokens;
  codes.latents = spec_.latents;
  codes.offsets.reserve(tokens + 1);
  codes.report = each_piece(x, tokens, stride, options, [&](std::size_t, std::size_t count, Piece& piece) {
    append(piece.codes, count, tokens, codes);
    if (needs_input_norms()) {
      codes.input_mean.insert(codes.input_mean.end(), piece.means.begin(), piece.means.end());
      codes.input_scale.insert(codes.input_scale.end(), piece.scales.begin(), piece.scales.end());
    }
  });
  return codes;
}

void Sae::encode_to(const float* x, std::size_t tokens, std::size_t stride, std::uint32_t* indices,
                    float* values, std::uint32_t* counts, const EncodeOptions& options) const {
  if (device_) {
    const SparseCodes codes = encode(host_rows(x, tokens, spec_.width, stride), options);
    scatter(codes, spec_.k, indices, values, counts);
    return;
  }
  Piece piece;
  piece.indices = indices;
  piece.values = values;
  piece.counts = counts;
  encode_piece(x, 0, tokens, stride, options, piece);
}

void Sae::check_latents(std::size_t of_statistics) const {
  require(of_statistics == spec_.latents, ErrorCode::invalid_argument,
          "statistics of " + std::to_string(of_statistics) + " latents cannot take codes of " +
              std::to_string(spec_.latents));
}

EncodeReport Sae::encode_into(LatentStats& stats, const float* x, std::size_t tokens, std::size_t stride,
                              const std::uint32_t* groups, const double* ids,
                              const EncodeOptions& options) const {
  if (device_) return encode_into(stats, host_rows(x, tokens, spec_.width, stride), groups, ids, options);
  check_latents(stats.options().latents);
  SparseCodes codes;
  return each_piece(x, tokens, stride, options, [&](std::size_t first, std::size_t count, Piece& piece) {
    codes.tokens = count;
    codes.indices.clear();
    codes.values.clear();
    codes.offsets.assign(1, 0);
    append(piece.codes, count, count, codes);
    stats.add(codes.view(), groups ? groups + first : nullptr, ids ? ids + first : nullptr);
  });
}

void Sae::decode(const CodesView& codes, const DecodeInputs& inputs, float* out) const {
  const std::size_t width = spec_.out_width;
  require(!needs_input_norms() || codes.tokens == 0 || (inputs.input_mean && inputs.input_scale),
          ErrorCode::invalid_argument,
          "decode: this SAE normalises its inputs; codes need their inputMean and inputScale");
  require(!skip_ || codes.tokens == 0 || inputs.x, ErrorCode::invalid_argument,
          "decode: this transcoder has a skip connection; decoding needs the inputs");
  DecodeArgs args;
  args.codes = codes;
  args.latents = spec_.latents;
  args.width = args.out_stride = width;
  args.bias = spec_.b_dec.data();
  args.out = out;
  std::vector<float> values;
  if (spec_.scaled_codes) {
    const float* const scale = [&] {
      const std::lock_guard lock(mutex_);
      return selection_scale({});
    }();
    std::size_t pairs = 0;
    for (std::size_t t = 0; t < codes.tokens; ++t) pairs = std::max(pairs, codes.begin(t) + codes.count(t));
    values.assign(codes.values, codes.values + pairs);
    for (std::size_t t = 0; t < codes.tokens; ++t)
      for (std::size_t c = codes.begin(t); c < codes.begin(t) + codes.count(t); ++c)
        if (codes.indices[c] < spec_.latents && scale[codes.indices[c]] > 0)
          values[c] /= scale[codes.indices[c]];
    args.codes.values = values.data();
  }
  if (!decode_on_device(args)) w_dec_.decode(args, spec_.layer_gates);
  check_finite("reconstruction", out, codes.tokens, width, width);
  if (skip_) {
    // Small beside the decoder: widened for the one product.
    AlignedBuffer<float> skip(width * spec_.width);
    read_f32(skip_->source(), 0, skip.size(), skip.data());
    check_finite(skip_->source().name.c_str(), skip.data(), width, spec_.width, spec_.width);
    GemmArgs gemm;
    gemm.m = codes.tokens;
    gemm.n = gemm.ldc = width;
    gemm.k = gemm.lda = gemm.ldb = spec_.width;
    gemm.a = inputs.x;
    gemm.b = skip.data();
    gemm.transpose_b = gemm.accumulate = true;
    gemm.c = out;
    personascope::gemm(gemm);
  }
  const InputTransform inverse = transform();
  if (inverse.any() && !spec_.transcoder)
    inverse.undo(out, codes.tokens, inputs.input_mean, inputs.input_scale);
}

void Sae::pre_activations(const float* x, std::size_t tokens, std::size_t stride,
                          const std::uint32_t* latents, std::size_t count, float* out) const {
  const EncoderWeights& encoder = ready_encoder({});
  const InputTransform inputs = transform();
  std::vector<float> input, means(tokens), scales(tokens);
  if (inputs.any()) {
    input.resize(tokens * spec_.width);
    inputs.apply(x, tokens, stride, 0, input.data(), means.data(), scales.data());
    x = input.data();
    stride = spec_.width;
  }
  personascope::pre_activations(encoder, x, tokens, stride, latents, count, out);
}

template <class Rows>
std::vector<float> Sae::vector_of(const Rows& rows, std::size_t latent, std::size_t width) const {
  if (latent >= spec_.latents)
    fail(ErrorCode::invalid_argument,
         "latent " + std::to_string(latent) + ": the SAE has " + std::to_string(spec_.latents));
  std::vector<float> row(width);
  rows.read(latent, row.data());
  return row;
}

std::vector<float> Sae::decoder_vector(std::size_t latent) const {
  return vector_of(w_dec_, latent, spec_.out_width);
}

std::vector<float> Sae::encoder_vector(std::size_t latent) const {
  return vector_of(w_enc_, latent, spec_.width);
}

}  // namespace personascope
