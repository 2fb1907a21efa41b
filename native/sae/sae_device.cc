// What an Sae does with tensors, on the host and on a GPU.
#include <algorithm>
#include <string>

#include "native/core/check_finite.h"
#include "native/sae/sae.h"

namespace personascope {

namespace {

// Tokens a call of the plugin takes: the most that it works on at once.
constexpr std::size_t kDeviceTokens = 16384;

// Tokens [first, first + tokens) of rows, a view.
DeviceTensor tokens_of(const DeviceTensor& x, const TensorRows& rows, std::size_t first, std::size_t tokens) {
  DeviceTensor view = x;
  view.shape = {tokens, rows.width};
  view.strides = {static_cast<std::int64_t>(rows.stride), 1};
  view.data = static_cast<std::uint8_t*>(x.data) + first * rows.stride * dtype_size(x.dtype);
  return view;
}

void present(const DeviceChoice& device, const DeviceChoice& wanted, const char* what) {
  require(!device.cuda || device == wanted, ErrorCode::invalid_argument,
          std::string(what) + " lie on " + device_name(device) + ", the SAE is on " + device_name(wanted));
}

void add_to(EncodeReport& report, const EncodeReport& more) {
  report.precision = more.precision;
  report.tokens += more.tokens;
  report.count.screened += more.count.screened;
  report.count.rescored += more.count.rescored;
}
void add_to(EncodeReport& report, const DeviceSae::Encoded& encoded, std::size_t tokens) {
  add_to(report, EncodeReport{encoded.precision, tokens, encoded.count});
}

}  // namespace

// Some tokens as the device took them, and their codes.
struct Sae::DevicePiece {
  std::vector<float> input, means, scales;
  DeviceSae::Encoded encoded;
};

TensorRows Sae::rows_for(const DeviceTensor& x) const {
  const TensorRows rows = rows_of(x, "activations");
  require(rows.width == spec_.width, ErrorCode::invalid_argument,
          "activations: a tensor " + shape_text(x.shape) + ", expected a last axis of dModel " +
              std::to_string(spec_.width));
  present(x.device, spec_.device, "activations");
  return rows;
}

Sae::DevicePiece Sae::encode_on_device(const DeviceTensor& x, const TensorRows& rows, std::size_t first,
                                       std::size_t tokens, const EncodeOptions& options) const {
  const EncoderWeights& encoder = ready_encoder(options.check);
  const InputTransform transformed = transform();
  DevicePiece piece;
  DeviceInputs inputs;
  inputs.x = static_cast<const float*>(x.data) + first * rows.stride;
  inputs.place = x.device.cuda ? Place::device : Place::host;
  inputs.tokens = tokens;
  inputs.stride = rows.stride;
  inputs.first_token = first;
  if (x.dtype != Dtype::f32 || transformed.any()) {
    // Widened, and normalised, by the host.
    piece.input.resize(tokens * spec_.width);
    read_f32(tokens_of(x, rows, first, tokens), piece.input.data());
    inputs.x = piece.input.data();
    inputs.place = Place::host;
    inputs.stride = spec_.width;
    if (transformed.any()) {
      piece.means.resize(tokens);
      piece.scales.resize(tokens);
      transformed.apply(inputs.x, tokens, spec_.width, first, piece.input.data(), piece.means.data(),
                        piece.scales.data());
    }
  }
  piece.encoded =
      device_->encode(encoder, inputs, spec_.k, device_precision(options.precision), options.check);
  return piece;
}

SparseCodes Sae::encode(const DeviceTensor& x, const EncodeOptions& options) const {
  const TensorRows rows = rows_for(x);
  if (!device_) {
    if (x.dtype == Dtype::f32)
      return encode(static_cast<const float*>(x.data), rows.rows, rows.stride, options);
    std::vector<float> values(rows.rows * rows.width);
    read_f32(x, values.data());
    return encode(values.data(), rows.rows, rows.width, options);
  }
  SparseCodes codes;
  codes.tokens = rows.rows;
  codes.latents = spec_.latents;
  for (std::size_t first = 0; first < rows.rows; first += kDeviceTokens) {
    const std::size_t count = std::min<std::size_t>(kDeviceTokens, rows.rows - first);
    const DevicePiece piece = encode_on_device(x, rows, first, count, options);
    append_codes(plugin_of(spec_.device), *piece.encoded.codes, codes);
    if (needs_input_norms()) {
      codes.input_mean.insert(codes.input_mean.end(), piece.means.begin(), piece.means.end());
      codes.input_scale.insert(codes.input_scale.end(), piece.scales.begin(), piece.scales.end());
    }
    add_to(codes.report, piece.encoded, count);
    if (options.progress) options.progress(first + count);
  }
  return codes;
}

DeviceSparseCodes Sae::encode_kept(const DeviceTensor& x, const EncodeOptions& options) const {
  if (!device_) return DeviceSparseCodes(encode(x, options));
  const TensorRows rows = rows_for(x);
  DevicePiece piece = encode_on_device(x, rows, 0, rows.rows, options);
  SparseCodes about;
  about.tokens = rows.rows;
  about.latents = spec_.latents;
  if (needs_input_norms()) {
    about.input_mean = std::move(piece.means);
    about.input_scale = std::move(piece.scales);
  }
  add_to(about.report, piece.encoded, rows.rows);
  if (options.progress) options.progress(rows.rows);
  return DeviceSparseCodes(spec_.device, std::move(piece.encoded.codes), std::move(about));
}

namespace {

// Adds up the reports of take(first, count, options), batch after batch; progress is told here.
template <class Take>
EncodeReport each_batch(std::size_t rows, const EncodeOptions& options, const Take& take) {
  EncodeReport report;
  EncodeOptions inner = options;
  inner.progress = nullptr;
  for (std::size_t first = 0; first < rows; first += kDeviceTokens) {
    const std::size_t count = std::min<std::size_t>(kDeviceTokens, rows - first);
    add_to(report, take(first, count, inner));
    if (options.progress) options.progress(first + count);
  }
  return report;
}

}  // namespace

EncodeReport Sae::encode_into(LatentStats& stats, const DeviceTensor& x, const std::uint32_t* groups,
                              const double* ids, const EncodeOptions& options) const {
  check_latents(stats.options().latents);
  const TensorRows rows = rows_for(x);
  return each_batch(rows.rows, options,
                    [&](std::size_t first, std::size_t count, const EncodeOptions& inner) {
                      const SparseCodes codes = encode(tokens_of(x, rows, first, count), inner);
                      stats.add(codes.view(), groups ? groups + first : nullptr, ids ? ids + first : nullptr);
                      return codes.report;
                    });
}

EncodeReport Sae::encode_into(DeviceLatentStats& stats, const DeviceTensor& x,
                              const EncodeOptions& options) const {
  const TensorRows rows = rows_for(x);
  check_latents(stats.latents());
  require(stats.device() == spec_.device, ErrorCode::invalid_argument,
          "the statistics are on " + device_name(stats.device()) + ", the SAE is on " +
              device_name(spec_.device));
  return each_batch(rows.rows, options,
                    [&](std::size_t first, std::size_t count, const EncodeOptions& inner) {
                      const DeviceSparseCodes codes = encode_kept(tokens_of(x, rows, first, count), inner);
                      stats.add(codes);
                      return codes.report();
                    });
}

bool Sae::take_decoder() const {
  const WeightRows* rows = w_dec_.whole();
  return device_ && rows && spec_.layer_gates.thresholds.empty() &&
         device_->take_decoder(rows->view(), rows->source().name.c_str());
}

bool Sae::decode_on_device(const DecodeArgs& args) const {
  if (!take_decoder()) return false;
  const auto codes = upload_codes(spec_.device, args.codes, spec_.latents);
  device_->decode(args.bias, *codes, args.out, Place::host, args.out_stride);
  return true;
}

void Sae::decode(const DeviceSparseCodes& codes, const DeviceTensor* input, const DeviceTensor& out) const {
  require(codes.latents() == spec_.latents, ErrorCode::invalid_argument,
          "codes of " + std::to_string(codes.latents()) + " latents, the SAE has " +
              std::to_string(spec_.latents));
  require(codes.device() == spec_.device, ErrorCode::invalid_argument,
          "codes lie on " + device_name(codes.device()) + ", the SAE is on " + device_name(spec_.device));
  const TensorRows to = rows_of(out, "reconstructions");
  require(out.dtype == Dtype::f32 && to.width == spec_.out_width && to.rows == codes.tokens(),
          ErrorCode::invalid_argument,
          std::string("reconstructions: a tensor ") + shape_text(out.shape) + " of " + dtype_name(out.dtype) +
              ", expected F32 " + shape_text({codes.tokens(), spec_.out_width}));
  present(out.device, spec_.device, "reconstructions");
  const bool plain =
      !spec_.scaled_codes && !skip_ && !needs_input_norms() && (spec_.scale.empty() || spec_.transcoder);
  if (plain && to.rows > 0 && take_decoder()) {
    device_->decode(spec_.b_dec.data(), *codes.handle(), static_cast<float*>(out.data),
                    out.device.cuda ? Place::device : Place::host, to.stride);
    if (!out.device.cuda)
      check_finite("reconstruction", static_cast<const float*>(out.data), to.rows, to.width, to.stride);
    return;
  }
  // What is scaled, normalised or added besides is the host's.
  const SparseCodes here = codes.download();
  std::vector<float> values(to.rows * to.width), x;
  DecodeInputs inputs;
  if (!here.input_scale.empty()) {
    inputs.input_mean = here.input_mean.data();
    inputs.input_scale = here.input_scale.data();
  }
  if (skip_ && input) {
    const TensorRows given = rows_for(*input);
    require(
        given.rows == to.rows, ErrorCode::invalid_argument,
        "decode: inputs of " + std::to_string(given.rows) + " tokens, codes of " + std::to_string(to.rows));
    x.resize(given.rows * given.width);
    read_f32(*input, x.data());
    inputs.x = x.data();
  }
  decode(here.view(), inputs, values.data());
  DeviceTensor from = host_rows(values.data(), to.rows, to.width, to.width);
  from.shape = out.shape;
  from.strides = contiguous_strides(out.shape);
  copy_tensor(from, out);
}

}  // namespace personascope
