// The wrapped tensor of a device, for the other files of the addon that take or make one.
#pragma once
#include <napi.h>

#include <optional>

#include "native/addon/convert.h"
#include "native/core/device_tensor.h"

namespace personascope::addon {

class DeviceTensorClass : public Napi::ObjectWrap<DeviceTensorClass> {
 public:
  static constexpr napi_type_tag kTag = {0x70657273'6f6e6173, 0x64657654'656e7301};
  static constexpr const char* kWhat = "a DeviceTensor";
  static Napi::Function define(Napi::Env env);
  static Napi::Object wrap(Napi::Env env, DeviceTensor tensor);
  // The tensor of a JavaScript value; throws invalid_argument if it wraps none, or was freed.
  static const DeviceTensor& of(const Napi::Value& value, const char* argument);
  // Called by `wrap` only.
  explicit DeviceTensorClass(const Napi::CallbackInfo& info);
  void Finalize(Napi::Env env) override;

 private:
  const DeviceTensor& tensor() const;
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value strides(const Napi::CallbackInfo& info);
  Napi::Value device(const Napi::CallbackInfo& info);
  Napi::Value download(const Napi::CallbackInfo& info);
  Napi::Value bits(const Napi::CallbackInfo& info);
  Napi::Value write(const Napi::CallbackInfo& info);
  Napi::Value slice(const Napi::CallbackInfo& info);
  Napi::Value reshape(const Napi::CallbackInfo& info);
  Napi::Value free(const Napi::CallbackInfo& info);

  std::optional<DeviceTensor> tensor_;  // empty: freed
  std::int64_t accounted_ = 0;
};

// Rows of `width` fp32 values: an array, which the caller keeps alive, or a DeviceTensor.
DeviceTensor activations(const Napi::Value& value, std::size_t width, const char* argument);

}  // namespace personascope::addon
