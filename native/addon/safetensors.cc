// SafetensorsFile for JavaScript: metadata, the list of tensors, zero-copy views.
#include <napi.h>

#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/tensor.h"
#include "native/core/finite.h"
#include "native/io/safetensors.h"

namespace personascope::addon {
namespace {

napi_typedarray_type view_type(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return napi_float64_array;
    case Dtype::f32:
      return napi_float32_array;
    case Dtype::i64:
      return napi_bigint64_array;
    case Dtype::u64:
      return napi_biguint64_array;
    case Dtype::i32:
      return napi_int32_array;
    case Dtype::u32:
      return napi_uint32_array;
    case Dtype::i16:
      return napi_int16_array;
    case Dtype::f16:
    case Dtype::bf16:
    case Dtype::u16:
      return napi_uint16_array;
    case Dtype::i8:
      return napi_int8_array;
    default:
      return napi_uint8_array;
  }
}

class SafetensorsFileClass : public Napi::ObjectWrap<SafetensorsFileClass> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "SafetensorsFile",
                       {InstanceMethod("metadata", &SafetensorsFileClass::metadata),
                        InstanceMethod("tensors", &SafetensorsFileClass::tensors),
                        InstanceMethod("view", &SafetensorsFileClass::view),
                        InstanceMethod("tensor", &SafetensorsFileClass::tensor)});
  }

  explicit SafetensorsFileClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    guarded(info.Env(), [&] { file_ = std::make_shared<SafetensorsFile>(text(info[0], "path")); });
  }

 private:
  // [[key, value], ...] in the file's order.
  Napi::Value metadata(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto list = Napi::Array::New(env, file_->metadata().size());
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      auto pair = Napi::Array::New(env, 2);
      pair.Set(0u, file_->metadata()[i].first);
      pair.Set(1u, file_->metadata()[i].second);
      list.Set(i, pair);
    }
    return list;
  }

  // [{name, dtype, shape, begin, byteLength}, ...] in the order of their bytes.
  Napi::Value tensors(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    auto list = Napi::Array::New(env, file_->tensors().size());
    for (std::uint32_t i = 0; i < list.Length(); ++i) {
      Napi::HandleScope scope(env);
      const TensorInfo& tensor = file_->tensors()[i];
      auto shape = Napi::Array::New(env, tensor.shape.size());
      for (std::uint32_t j = 0; j < shape.Length(); ++j) shape.Set(j, static_cast<double>(tensor.shape[j]));
      auto entry = Napi::Object::New(env);
      entry.Set("name", tensor.name);
      entry.Set("dtype", dtype_name(tensor.dtype));
      entry.Set("shape", shape);
      entry.Set("begin", static_cast<double>(tensor.begin));
      entry.Set("byteLength", static_cast<double>(tensor.end - tensor.begin));
      list.Set(i, entry);
    }
    return list;
  }

  // view(name): the tensor as a typed array over the mapping; a copy where the file does not align it.
  Napi::Value view(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    return guarded(env, [&]() -> Napi::Value {
      const TensorInfo& tensor = file_->at(text(info[0], "name"));
      const auto type = view_type(tensor.dtype);
      if (file_->aligned(tensor)) return view_of(env, type, tensor.begin, tensor.elements);
      const std::size_t size = tensor.end - tensor.begin;
      void* copy = nullptr;
      napi_value buffer, array;
      checked(env, napi_create_arraybuffer(env, size, &copy, &buffer), tensor);
      if (size > 0) std::memcpy(copy, file_->bytes(tensor), size);
      checked(env, napi_create_typedarray(env, type, tensor.elements, buffer, 0, &array), tensor);
      return Napi::Value(env, array);
    });
  }

  // tensor(name): a NativeTensor.
  Napi::Value tensor(const Napi::CallbackInfo& info) {
    return guarded(info.Env(), [&]() -> Napi::Value {
      return TensorClass::wrap(info.Env(), file_->tensor(file_->at(text(info[0], "name"))));
    });
  }

  void checked(Napi::Env env, napi_status status, const TensorInfo& tensor) {
    if (status == napi_ok) return;
    bool pending = false;
    napi_is_exception_pending(env, &pending);
    if (pending) env.GetAndClearPendingException();
    fail(ErrorCode::out_of_memory,
         file_->path() + ": tensor '" + tensor.name + "' is too large for a typed array");
  }

  // One ArrayBuffer spans the mapping: the engine allows no two over the same memory.
  Napi::Value view_of(Napi::Env env, napi_typedarray_type type, std::uint64_t begin, std::uint64_t elements) {
    if (buffer_.IsEmpty()) {
      const auto& mapped = file_->file();
      auto* held = new std::shared_ptr<MappedFile>(mapped);
      const auto buffer = Napi::ArrayBuffer::New(
          env, mapped->data(), mapped->size(),
          [](Napi::Env, void*, std::shared_ptr<MappedFile>* released) { delete released; }, held);
      buffer_ = Napi::Persistent(buffer);
    }
    napi_value array;
    const auto status = napi_create_typedarray(env, type, elements, buffer_.Value(), begin, &array);
    if (status != napi_ok) {
      bool pending = false;
      napi_is_exception_pending(env, &pending);
      if (pending) env.GetAndClearPendingException();
      fail(ErrorCode::out_of_memory,
           file_->path() + ": " + std::to_string(elements) + " values are too many for one typed array");
    }
    return Napi::Value(env, array);
  }

  std::shared_ptr<SafetensorsFile> file_;
  Napi::Reference<Napi::ArrayBuffer> buffer_;
};

// firstNonFinite(values: Float32Array): index of the first NaN or infinity, or -1.
Napi::Value first_non_finite_value(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const auto values = typed_array<float>(info[0], "values");
    const std::size_t found = first_non_finite(values.data, values.size);
    return Napi::Number::New(info.Env(), found == values.size ? -1.0 : static_cast<double>(found));
  });
}

}  // namespace

void initialise_safetensors(Napi::Env env, Napi::Object exports) {
  exports.Set("SafetensorsFile", SafetensorsFileClass::define(env));
  exports.Set("firstNonFinite", Napi::Function::New(env, first_non_finite_value));
}

}  // namespace personascope::addon
