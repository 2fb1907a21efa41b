#include "native/sae/saelens.h"

#include <cmath>
#include <vector>

#include "native/core/error.h"
#include "native/core/mapped_file.h"
#include "native/io/safetensors.h"

namespace personascope {

namespace {

constexpr std::size_t kMostConfig = std::size_t{1} << 20;

using Kind = JsonValue::Kind;

// How a value stands in a message.
std::string told(const JsonValue* value) {
  if (!value || value->is(Kind::null)) return "missing";
  if (value->is(Kind::text)) return quoted(value->text);
  if (value->is(Kind::boolean)) return value->boolean ? "true" : "false";
  if (value->is(Kind::array)) return "a list";
  if (value->is(Kind::object)) return "an object";
  if (value->number == std::floor(value->number) && std::fabs(value->number) < 1e15)
    return std::to_string(static_cast<long long>(value->number));
  return std::to_string(value->number);
}

class Fields {
 public:
  Fields(const JsonValue& cfg, const std::string& where) : cfg_(cfg), where_(where) {}

  [[noreturn]] void refuse(const char* field, const std::string& expected) const {
    fail(ErrorCode::format,
         where_ + ": " + field + " is " + told(cfg_.find(field)) + ", expected " + expected);
  }
  // Absent and null are the same.
  const JsonValue* find(const char* field) const {
    const JsonValue* value = cfg_.find(field);
    return value && !value->is(Kind::null) ? value : nullptr;
  }
  std::size_t whole(const char* field, double most) const {
    const JsonValue* value = find(field);
    if (!value || !value->is(Kind::number) || value->number != std::floor(value->number) ||
        value->number < 1 || value->number > most)
      refuse(field, "a whole number from 1 to " + std::to_string(static_cast<long long>(most)));
    return static_cast<std::size_t>(value->number);
  }
  std::string text(const char* field, const std::string& otherwise) const {
    const JsonValue* value = find(field);
    if (value && !value->is(Kind::text)) refuse(field, "a text");
    return value ? value->text : otherwise;
  }
  bool flag(const char* field, bool otherwise) const {
    const JsonValue* value = find(field);
    if (value && !value->is(Kind::boolean)) refuse(field, "true or false");
    return value ? value->boolean : otherwise;
  }

 private:
  const JsonValue& cfg_;
  const std::string& where_;
};

std::vector<float> vector_of(const SafetensorsFile& file, const char* name, std::uint64_t size) {
  const TensorInfo& info = file.at(name, {size});
  std::vector<float> values(size);
  file.read_f32(info, values.data());
  return values;
}

// Checkpoints of a run that is not over keep what is trained: the logarithm.
std::vector<float> thresholds(const SafetensorsFile& file, std::uint64_t size) {
  if (file.find("threshold") || !file.find("log_threshold")) return vector_of(file, "threshold", size);
  std::vector<float> values = vector_of(file, "log_threshold", size);
  for (float& value : values) value = std::exp(value);
  return values;
}

InputNorm input_norm(const Fields& fields) {
  const JsonValue* norm = fields.find("normalize_activations");
  // 'expected_average_only_in' does nothing at run time; older files say it by true.
  if (!norm || norm->is(Kind::boolean) || norm->text == "none" || norm->text == "expected_average_only_in")
    return InputNorm::none;
  if (norm->text == "constant_norm_rescale") return InputNorm::constant_norm_rescale;
  if (norm->text == "layer_norm") return InputNorm::layer_norm;
  fields.refuse("normalize_activations",
                "'none', 'expected_average_only_in', 'constant_norm_rescale' or 'layer_norm'");
}

}  // namespace

SaelensConfig saelens_config(const JsonValue& cfg, const std::string& where) {
  require(cfg.is(Kind::object), ErrorCode::format, where + ": expected an object of settings");
  const Fields fields(cfg, where);
  SaelensConfig config;
  config.latents = fields.whole("d_sae", 4294967295.0);
  config.width = fields.whole("d_in", 1048576.0);
  config.subtract_decoder_bias = fields.flag("apply_b_dec_to_input", true);

  config.input_norm = input_norm(fields);
  const JsonValue* reshape = fields.find("reshape_activations");
  if (reshape && reshape->text != "none") fields.refuse("reshape_activations", "'none'");

  std::string architecture = fields.text("architecture", "standard");
  const JsonValue* kwargs = fields.find("activation_fn_kwargs");
  if (!fields.find("k") && kwargs && kwargs->find("k")) {
    // Before version 6 top-k was an activation function of the standard architecture.
    if (architecture != "standard")
      fields.refuse("architecture", "'standard', as activation_fn_kwargs holds k");
    const char* field = fields.find("activation_fn_str") ? "activation_fn_str" : "activation_fn";
    if (fields.text(field, "topk") != "topk") fields.refuse(field, "'topk', as activation_fn_kwargs holds k");
    const std::string kwargs_where = where + ": activation_fn_kwargs";
    config.k = Fields(*kwargs, kwargs_where).whole("k", static_cast<double>(config.latents));
  } else if (architecture == "topk") {
    config.k = fields.whole("k", static_cast<double>(config.latents));
    config.scale_by_decoder = fields.flag("rescale_acts_by_decoder_norm", false);
  } else if (architecture == "standard") {
    config.rule = SelectionRule::threshold;
    const char* field = fields.find("activation_fn_str") ? "activation_fn_str" : "activation_fn";
    if (fields.text(field, "relu") != "relu") fields.refuse(field, "'relu'");
  } else if (architecture == "jumprelu") {
    config.rule = SelectionRule::threshold;
    config.has_threshold = true;
  } else if (architecture == "gated") {
    config.rule = SelectionRule::gated;
  } else {
    fields.refuse("architecture", "'topk', 'standard', 'jumprelu' or 'gated'");
  }
  return config;
}

SaeSpec read_saelens(const std::string& folder) {
  const std::string config_path = folder + "/cfg.json";
  const MappedFile config_file(config_path);
  require(config_file.size() <= kMostConfig, ErrorCode::format,
          config_path + ": " + std::to_string(config_file.size()) + " bytes, expected a configuration");
  const SaelensConfig config =
      saelens_config(parse_json(config_file.data(), config_file.size(), config_path), config_path);
  const SafetensorsFile weights(folder + "/sae_weights.safetensors");
  const std::uint64_t n = config.latents, d = config.width;
  if (const TensorInfo* scaling = weights.find("scaling_factor")) {
    std::vector<float> factors(scaling->elements);
    weights.read_f32(*scaling, factors.data());
    for (const float factor : factors)
      require(factor == 1, ErrorCode::format,
              weights.path() +
                  ": tensor 'scaling_factor' is not all ones; fold it into the weights with SAELens");
  }

  SaeSpec spec;
  spec.latents = n;
  spec.width = d;
  spec.rule = config.rule;
  spec.k = config.k;
  spec.input_norm = config.input_norm;
  spec.subtract_decoder_bias = config.subtract_decoder_bias;
  spec.w_enc = transposed(weights.tensor(weights.at("W_enc", {d, n})));
  spec.w_dec = weights.tensor(weights.at("W_dec", {n, d}));
  spec.b_dec = vector_of(weights, "b_dec", d);
  if (config.rule == SelectionRule::gated) {
    spec.b_enc.assign(n, 0);
    spec.gate_bias = vector_of(weights, "b_gate", n);
    spec.magnitude_bias = vector_of(weights, "b_mag", n);
    spec.magnitude_scale = vector_of(weights, "r_mag", n);
    for (float& scale : spec.magnitude_scale) scale = std::exp(scale);
  } else {
    spec.b_enc = vector_of(weights, "b_enc", n);
  }
  if (config.rule == SelectionRule::threshold)
    spec.threshold = config.has_threshold ? thresholds(weights, n) : std::vector<float>{0};
  if (config.scale_by_decoder) {
    spec.decoder_scale.joined = 1;
    spec.scaled_codes = true;
  }
  return spec;
}

}  // namespace personascope
