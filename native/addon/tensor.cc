#include "native/addon/tensor.h"

#include <algorithm>
#include <string>
#include <vector>

#include "native/addon/constructor.h"
#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/core/aligned.h"

namespace personascope::addon {
Napi::Function TensorClass::define(Napi::Env env) {
  return DefineClass(
      env, "NativeTensor",
      {InstanceAccessor<&TensorClass::name>("name"), InstanceAccessor<&TensorClass::dtype>("dtype"),
       InstanceAccessor<&TensorClass::shape>("shape"), InstanceAccessor<&TensorClass::strides>("strides"),
       InstanceMethod("readF32", &TensorClass::read_f32), InstanceMethod("rowsF32", &TensorClass::rows_f32),
       InstanceMethod("rowNorms", &TensorClass::row_norms), InstanceMethod("item", &TensorClass::item),
       InstanceMethod("permute", &TensorClass::permute), InstanceMethod("transpose", &TensorClass::transpose),
       InstanceMethod("reshape", &TensorClass::reshape)});
}

Napi::Object TensorClass::wrap(Napi::Env env, Tensor tensor) {
  return Constructor<TensorClass>::wrap(env, std::move(tensor));
}

const Tensor& TensorClass::of(const Napi::Value& value, const char* argument) {
  return unwrapped<TensorClass>(value, argument)->tensor_;
}

TensorClass::TensorClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] {
    require(info[0].IsExternal(), ErrorCode::invalid_argument, "a NativeTensor comes from a file");
    tensor_ = *info[0].As<Napi::External<Tensor>>().Data();
    info.This().As<Napi::Object>().TypeTag(&kTag);
  });
}

Napi::Value TensorClass::name(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), tensor_.name);
}

Napi::Value TensorClass::dtype(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), dtype_name(tensor_.dtype));
}

Napi::Value TensorClass::shape(const Napi::CallbackInfo& info) {
  return list_of(info.Env(), tensor_.shape);
}

Napi::Value TensorClass::strides(const Napi::CallbackInfo& info) {
  return list_of(info.Env(), tensor_.strides);
}

// readF32(options): a new Float32Array of all values.
Napi::Value TensorClass::read_f32(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    return start_job(env, info[0], {}, [tensor = tensor_](JobContext& job) -> Finish {
      const std::uint64_t elements = tensor.elements();
      const std::uint64_t row = tensor.shape.empty() || elements == 0 ? 1 : elements / tensor.shape[0];
      // Whole slices of the first axis, about 16 million values at a time.
      const std::uint64_t chunk = std::max(row, (std::uint64_t{1} << 24) / row * row);
      auto values = std::make_shared<AlignedBuffer<float>>(elements);
      for (std::uint64_t first = 0; first < elements; first += chunk) {
        job.check();
        const std::uint64_t count = std::min(chunk, elements - first);
        personascope::read_f32(tensor, first, count, values->data() + first);
        job.progress(static_cast<double>(first + count), static_cast<double>(elements));
      }
      return [values](Napi::Env end) { return to_typed_array(end, std::move(*values)); };
    });
  });
}

// rowsF32(begin, end): slices of the first axis, in the calling thread.
Napi::Value TensorClass::rows_f32(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    require(!tensor_.shape.empty(), ErrorCode::invalid_argument,
            tensor_.name + " is a scalar: it has no rows");
    const std::uint64_t rows = tensor_.shape[0];
    const std::uint64_t end = whole_number(info[1], "end", 0, rows);
    const std::uint64_t begin = whole_number(info[0], "begin", 0, end);
    const std::uint64_t row = rows == 0 ? 0 : tensor_.elements() / rows;
    AlignedBuffer<float> values((end - begin) * row);
    personascope::read_f32(tensor_, begin * row, values.size(), values.data());
    return to_typed_array(env, std::move(values));
  });
}

// rowNorms(options): Euclidean norms of the slices of the first axis.
Napi::Value TensorClass::row_norms(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    return start_job(env, info[0], {}, [tensor = tensor_](JobContext& job) -> Finish {
      const std::uint64_t rows = tensor.shape.empty() ? 0 : tensor.shape[0];
      auto norms = std::make_shared<AlignedBuffer<float>>(rows);
      personascope::row_norms(tensor, norms->data(), [&](std::uint64_t done) {
        job.check();
        job.progress(static_cast<double>(done), static_cast<double>(rows));
      });
      return [norms](Napi::Env end) { return to_typed_array(end, std::move(*norms)); };
    });
  });
}

// item(): the value of a tensor of one element.
Napi::Value TensorClass::item(const Napi::CallbackInfo& info) {
  return guarded(info.Env(),
                 [&]() -> Napi::Value { return Napi::Number::New(info.Env(), personascope::item(tensor_)); });
}

Napi::Value TensorClass::permute(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return wrap(info.Env(), permuted(tensor_, numbers<std::size_t>(info[0], "axes")));
  });
}

Napi::Value TensorClass::transpose(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value { return wrap(info.Env(), transposed(tensor_)); });
}

Napi::Value TensorClass::reshape(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return wrap(info.Env(), reshaped(tensor_, numbers<std::uint64_t>(info[0], "shape")));
  });
}

void initialise_tensor(Napi::Env env, Napi::Object) {
  Constructor<TensorClass>::keep(env, TensorClass::define(env));
}

}  // namespace personascope::addon
