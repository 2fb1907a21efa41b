// The wrapped tensor view, for the other classes of the addon that take or make one.
#pragma once
#include <napi.h>

#include "native/core/tensor.h"

namespace personascope::addon {

class TensorClass : public Napi::ObjectWrap<TensorClass> {
 public:
  static constexpr napi_type_tag kTag = {0x70657273'6f6e6173, 0x54656e73'6f723031};
  static constexpr const char* kWhat = "a NativeTensor";
  static Napi::Function define(Napi::Env env);
  // Wraps a view.
  static Napi::Object wrap(Napi::Env env, Tensor tensor);
  // The view of a JavaScript value; throws invalid_argument if it wraps none.
  static const Tensor& of(const Napi::Value& value, const char* argument);
  // Called by `wrap` only.
  explicit TensorClass(const Napi::CallbackInfo& info);

 private:
  Napi::Value name(const Napi::CallbackInfo& info);
  Napi::Value dtype(const Napi::CallbackInfo& info);
  Napi::Value shape(const Napi::CallbackInfo& info);
  Napi::Value strides(const Napi::CallbackInfo& info);
  Napi::Value read_f32(const Napi::CallbackInfo& info);
  Napi::Value rows_f32(const Napi::CallbackInfo& info);
  Napi::Value row_norms(const Napi::CallbackInfo& info);
  Napi::Value item(const Napi::CallbackInfo& info);
  Napi::Value permute(const Napi::CallbackInfo& info);
  Napi::Value transpose(const Napi::CallbackInfo& info);
  Napi::Value reshape(const Napi::CallbackInfo& info);

  Tensor tensor_;
};

}  // namespace personascope::addon
