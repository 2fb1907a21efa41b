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

// The tensor as fp32, where it lies if it is that already.
class Floats {
 public:
  Floats(const SafetensorsFile& file, const char* name, const std::vector<std::uint64_t>& shape) {
    const TensorInfo& info = file.at(name, shape);
    if (info.dtype == Dtype::f32 && file.aligned(info)) {
      data_ = reinterpret_cast<const float*>(file.bytes(info));
      return;
    }
    copy_ = AlignedBuffer<float>(info.elements);
    file.read_f32(info, copy_.data());
    data_ = copy_.data();
  }
  const float* data() const { return data_; }

 private:
  AlignedBuffer<float> copy_;
  const float* data_ = nullptr;
};

}  // namespace

SaelensConfig saelens_config(const JsonValue& cfg, const std::string& where) {
  require(cfg.is(Kind::object), ErrorCode::format, where + ": expected an object of settings");
  const Fields fields(cfg, where);
  SaelensConfig config;
  config.latents = fields.whole("d_sae", 4294967295.0);
  config.width = fields.whole("d_in", 1048576.0);
  config.subtract_decoder_bias = fields.flag("apply_b_dec_to_input", true);

  std::string architecture = fields.text("architecture", "standard");
  const JsonValue* kwargs = fields.find("activation_fn_kwargs");
  if (!fields.find("k") && kwargs && kwargs->find("k")) {
    // Before version 6 top-k was an activation function of the standard architecture.
    const std::string function = fields.text("activation_fn_str", fields.text("activation_fn", "topk"));
    if (function != "topk") fields.refuse("activation_fn", "'topk', as activation_fn_kwargs holds k");
    config.k =
        Fields(*kwargs, where + ": activation_fn_kwargs").whole("k", static_cast<double>(config.latents));
    architecture = "topk";
  } else if (architecture == "topk") {
    config.k = fields.whole("k", static_cast<double>(config.latents));
  }
  if (architecture != "topk") fields.refuse("architecture", "'topk'");
  if (fields.flag("rescale_acts_by_decoder_norm", false))
    fields.refuse("rescale_acts_by_decoder_norm", "false");

  // 'expected_average_only_in' does nothing at run time; older files say it by true.
  const JsonValue* norm = fields.find("normalize_activations");
  if (norm && !norm->is(Kind::boolean) && norm->text != "none" && norm->text != "expected_average_only_in")
    fields.refuse("normalize_activations", "'none' or 'expected_average_only_in'");
  const JsonValue* reshape = fields.find("reshape_activations");
  if (reshape && reshape->text != "none") fields.refuse("reshape_activations", "'none'");
  return config;
}

Sae load_saelens(const std::string& folder) {
  const std::string config_path = folder + "/cfg.json";
  const MappedFile config_file(config_path);
  require(config_file.size() <= kMostConfig, ErrorCode::format,
          config_path + ": " + std::to_string(config_file.size()) + " bytes, expected a configuration");
  const SaelensConfig config =
      saelens_config(parse_json(config_file.data(), config_file.size(), config_path), config_path);
  const SafetensorsFile weights(folder + "/sae_weights.safetensors");
  const std::uint64_t n = config.latents, d = config.width;
  const Floats w_enc(weights, "W_enc", {d, n}), w_dec(weights, "W_dec", {n, d});
  const Floats b_enc(weights, "b_enc", {n}), b_dec(weights, "b_dec", {d});
  if (const TensorInfo* scaling = weights.find("scaling_factor")) {
    const Floats factors(weights, "scaling_factor", scaling->shape);
    for (std::uint64_t i = 0; i < scaling->elements; ++i)
      require(factors.data()[i] == 1, ErrorCode::format,
              weights.path() +
                  ": tensor 'scaling_factor' is not all ones; fold it into the weights with SAELens");
  }
  return Sae(topk_spec(n, d, config.k, config.subtract_decoder_bias, w_enc.data(), EncoderLayout::width_major,
                       w_dec.data(), b_enc.data(), b_dec.data()));
}

}  // namespace personascope
