#include "native/sae/spec.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/check_finite.h"

namespace personascope {

namespace {

void check_weights(const Tensor& tensor, const std::vector<std::uint64_t>& shape) {
  require(tensor.data != nullptr, ErrorCode::invalid_argument, "SAE: " + tensor.name + " is missing");
  require(tensor.shape == shape, ErrorCode::invalid_argument,
          tensor.name + ": found shape " + shape_text(tensor.shape) + ", expected " + shape_text(shape));
  require(tensor.dtype == Dtype::f32 || tensor.dtype == Dtype::bf16 || tensor.dtype == Dtype::f16 ||
              tensor.dtype == Dtype::f64,
          ErrorCode::format,
          tensor.name + ": found " + dtype_name(tensor.dtype) + ", expected F32, BF16, F16 or F64");
}

void check_vector(const char* name, const std::vector<float>& values, std::size_t size) {
  require(values.size() == size, ErrorCode::invalid_argument,
          std::string(name) + ": found " + std::to_string(values.size()) + " values, expected " +
              std::to_string(size));
  check_finite(name, values.data(), 1, size, size);
}

void check_optional(const char* name, const std::vector<float>& values, std::size_t size) {
  if (!values.empty()) check_vector(name, values, size);
}

}  // namespace

Tensor matrix_of(const char* name, const float* data, std::size_t rows, std::size_t columns,
                 EncoderLayout layout) {
  Tensor tensor;
  tensor.name = name;
  tensor.shape = {rows, columns};
  tensor.strides = layout == EncoderLayout::width_major
                       ? std::vector<std::int64_t>{1, static_cast<std::int64_t>(rows)}
                       : std::vector<std::int64_t>{static_cast<std::int64_t>(columns), 1};
  tensor.data = reinterpret_cast<const std::uint8_t*>(data);
  return tensor;
}

SaeSpec topk_spec(std::size_t latents, std::size_t width, std::size_t k, bool subtract_decoder_bias,
                  const float* w_enc, EncoderLayout layout, const float* w_dec, const float* b_enc,
                  const float* b_dec) {
  SaeSpec spec;
  spec.latents = latents;
  spec.width = width;
  spec.k = k;
  spec.subtract_decoder_bias = subtract_decoder_bias;
  spec.w_enc = matrix_of("W_enc", w_enc, latents, width, layout);
  spec.w_dec = matrix_of("W_dec", w_dec, latents, width, EncoderLayout::latent_major);
  spec.b_enc.assign(b_enc, b_enc + latents);
  spec.b_dec.assign(b_dec, b_dec + width);
  return spec;
}

DeviceChoice sae_device(const std::string& name, const std::optional<Precision>& precision) {
  if (name == "auto" && precision == Precision::fp32) return {};
  return choose_device(name);
}

void check_spec(const SaeSpec& spec) {
  const std::size_t n = spec.latents, d = spec.width, out = spec.out_width;
  const auto range = [](const char* what, std::size_t value, std::size_t most) {
    require(value >= 1 && value <= most, ErrorCode::invalid_argument,
            std::string("SAE: ") + what + " is " + std::to_string(value) + ", expected 1 to " +
                std::to_string(most));
  };
  require(!spec.device.cuda || spec.precision != Precision::fp32, ErrorCode::invalid_argument,
          "SAE: precision 'fp32' is the CPU's; on " + device_name(spec.device) +
              " 'int8' and 'bf16' give the same codes");
  range("the width", d, std::size_t{1} << 20);
  range("the output's width", out, std::size_t{1} << 20);
  range("the number of latents", n, (std::size_t{1} << 32) - 1);
  if (spec.rule == SelectionRule::topk || spec.rule == SelectionRule::groupmax) range("k", spec.k, n);
  require(
      spec.rule != SelectionRule::groupmax || n % spec.k == 0, ErrorCode::invalid_argument,
      "SAE: " + std::to_string(n) + " latents do not make k = " + std::to_string(spec.k) + " equal groups");
  check_weights(spec.w_enc, {n, d});
  const std::size_t layers =
      spec.w_dec.shape.size() == 3 && spec.w_dec.owner ? std::max<std::size_t>(1, spec.w_dec.shape[1]) : 1;
  if (layers == 1 || out % layers != 0)
    check_weights(spec.w_dec, {n, out});
  else
    check_weights(spec.w_dec, {n, layers, out / layers});
  const LayerGates& gates = spec.layer_gates;
  require(gates.thresholds.empty() || gates.thresholds.size() == layers, ErrorCode::invalid_argument,
          "thresholds of layers: found " + std::to_string(gates.thresholds.size()) + ", expected " +
              std::to_string(layers));
  check_vector("thresholds of layers", gates.thresholds, gates.thresholds.size());
  check_vector("norms of layers", gates.norms, gates.thresholds.size() * n);
  if (spec.w_skip.data) check_weights(spec.w_skip, {out, d});
  check_vector("b_enc", spec.b_enc, n);
  check_vector("b_dec", spec.b_dec, out);
  require(!spec.subtract_decoder_bias || out == d, ErrorCode::invalid_argument,
          "SAE: b_dec of " + std::to_string(out) + " values cannot be subtracted from inputs of " +
              std::to_string(d));
  check_optional("mean", spec.mean, d);
  check_optional("scale", spec.scale, d);
  require(spec.mean.empty() == spec.scale.empty(), ErrorCode::invalid_argument,
          "SAE: mean and scale of inputs come together");
  for (std::size_t i = 0; i < spec.scale.size(); ++i)
    if (!(std::fabs(spec.scale[i]) > 0))
      fail(ErrorCode::invalid_argument, "SAE: the input's scale at dimension " + std::to_string(i) + " is 0");
  require(spec.mean.empty() || spec.transcoder || out == d, ErrorCode::invalid_argument,
          "SAE: outputs of " + std::to_string(out) + " values cannot take back the scale of inputs of " +
              std::to_string(d));
  if (spec.rule == SelectionRule::threshold) {
    require(spec.threshold.size() == 1 || spec.threshold.size() == n, ErrorCode::invalid_argument,
            "threshold: found " + std::to_string(spec.threshold.size()) + " values, expected 1 or " +
                std::to_string(n));
    check_finite("threshold", spec.threshold.data(), 1, spec.threshold.size(), spec.threshold.size());
  }
  const bool gated = spec.rule == SelectionRule::gated;
  if (gated) {
    check_vector("gate bias", spec.gate_bias, n);
    check_vector("magnitude scale", spec.magnitude_scale, n);
    check_vector("magnitude bias", spec.magnitude_bias, n);
  }
  const DecoderScale& by_decoder = spec.decoder_scale;
  for (const double factor : {by_decoder.joined, by_decoder.added})
    require(std::isfinite(factor) && factor >= 0, ErrorCode::invalid_argument,
            "decoder scale: found " + std::to_string(factor) + ", expected at least 0");
  const bool scaled = by_decoder.any() || !spec.selection_scale.empty();
  require(!gated || !scaled, ErrorCode::invalid_argument, "SAE: a gated one has no selection scale");
  require(!by_decoder.any() || spec.selection_scale.empty(), ErrorCode::invalid_argument,
          "SAE: a selection scale, and the decoder's norms for it");
  check_optional("selection scale", spec.selection_scale, n);
  for (std::size_t l = 0; l < spec.selection_scale.size(); ++l)
    if (!(spec.selection_scale[l] >= 0))
      fail(ErrorCode::invalid_argument, "selection scale: latent " + std::to_string(l) + " has " +
                                            std::to_string(spec.selection_scale[l]) +
                                            ", expected at least 0");
  require(!spec.scaled_codes || scaled, ErrorCode::invalid_argument,
          "SAE: scaled codes without a selection scale");
}

}  // namespace personascope
