// The wrapped SAE, for the other classes of the addon that take or make one.
#pragma once
#include <napi.h>

#include <memory>
#include <optional>

#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/sae/sae.h"

namespace personascope::addon {

class SaeClass : public Napi::ObjectWrap<SaeClass> {
 public:
  static constexpr napi_type_tag kTag = {0x70657273'6f6e6173, 0x53616500'00000001};
  static constexpr const char* kWhat = "an Sae";
  static Napi::Function define(Napi::Env env);
  // The SAE of a JavaScript value; throws invalid_argument if it wraps none.
  static const std::shared_ptr<const Sae>& of(const Napi::Value& value, const char* argument);
  // Wraps an SAE that the core made.
  static Napi::Object wrap(Napi::Env env, std::shared_ptr<const Sae> sae);
  // (spec), or what `wrap` hands over.
  explicit SaeClass(const Napi::CallbackInfo& info);
  ~SaeClass() override = default;
  void Finalize(Napi::Env env) override;

  const std::shared_ptr<const Sae>& sae() const { return sae_; }

 private:
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value encode_into(const Napi::CallbackInfo& info);
  Napi::Value prepare(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value pre_activations(const Napi::CallbackInfo& info);
  Napi::Value decoder_vector(const Napi::CallbackInfo& info);
  Napi::Value encoder_vector(const Napi::CallbackInfo& info);
  Napi::Value encoder_columns(const Napi::CallbackInfo& info);
  Napi::Value decoder_rows(const Napi::CallbackInfo& info);
  Napi::Value encoder_bias(const Napi::CallbackInfo& info);
  Napi::Value decoder_bias(const Napi::CallbackInfo& info);
  static EncodeOptions encode_options(const std::optional<Precision>& precision, JobContext& job,
                                      std::size_t rows);
  void set(Napi::Env env, std::shared_ptr<const Sae> sae);
  double operations(std::size_t rows) const;

  std::shared_ptr<const Sae> sae_;
  std::int64_t accounted_ = 0;
};

// Undefined: automatic.
std::optional<Precision> precision_of(const Napi::Value& value);

Napi::Object to_object(Napi::Env env, const EncodeReport& report);
// {indices, values, offsets, inputMean?, inputScale?, report}; takes the arrays over.
Napi::Object to_object(Napi::Env env, SparseCodes&& codes);

// Sparse codes that JavaScript hands over: {indices, values, offsets}, checked for consistent lengths.
CodesView codes_view(const Napi::Value& value, const char* argument);

// Rows of `width` values in an array; throws invalid_argument unless they fill it.
std::size_t whole_rows(const Span<float>& values, std::size_t width, const char* argument);

}  // namespace personascope::addon
