// DeviceTensor for JavaScript: memory of a device as an object, its copies to and fro, and steering of it.
#include "native/addon/device_tensor.h"

#include <algorithm>
#include <string>
#include <vector>

#include "native/addon/constructor.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/addon/tensor.h"
#include "native/kernels/steer/device.h"

namespace personascope::addon {
namespace {

constexpr std::uint64_t kPieceBytes = std::uint64_t{16} << 20;

Dtype dtype_of(const Napi::Value& value) {
  const std::string name = text(value, "dtype");
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16})
    if (name == dtype_name(dtype)) return dtype;
  fail(ErrorCode::invalid_argument, "dtype: found '" + name + "', expected F32, BF16 or F16");
}

// What an array of JavaScript holds, as a tensor of the host that the caller keeps.
DeviceTensor host_values(const Napi::Value& value, Dtype dtype, const std::vector<std::uint64_t>& shape) {
  std::uint64_t elements = 1;
  for (const std::uint64_t extent : shape)
    require(!__builtin_mul_overflow(elements, extent, &elements), ErrorCode::invalid_argument,
            "shape: " + shape_text(shape) + " is larger than any memory");
  void* const data = dtype == Dtype::f32
                         ? static_cast<void*>(typed_array<float>(value, "values", elements).data)
                         : static_cast<void*>(typed_array<std::uint16_t>(value, "values", elements).data);
  return {{}, dtype, shape, contiguous_strides(shape), data, nullptr};
}

// `from` copied to `to`, some rows at a time, so that it can be stopped.
void copy_in_pieces(const DeviceTensor& from, const DeviceTensor& to, JobContext& job) {
  const std::uint64_t rows = to.shape.empty() ? 1 : to.shape[0];
  const std::uint64_t row = rows ? std::max<std::uint64_t>(1, to.bytes() / rows) : 1;
  const std::uint64_t step = std::max<std::uint64_t>(1, kPieceBytes / row);
  if (rows <= step) {
    job.check();
    return copy_tensor(from, to);
  }
  for (std::uint64_t first = 0; first < rows; first += step) {
    job.check();
    const std::uint64_t end = std::min(rows, first + step);
    copy_tensor(sliced(from, 0, first, end), sliced(to, 0, first, end));
    job.progress(static_cast<double>(end), static_cast<double>(rows));
  }
}

Finish wrapped(DeviceTensor tensor) {
  return [tensor](Napi::Env end) -> Napi::Value { return DeviceTensorClass::wrap(end, tensor); };
}

// deviceUpload(values: Float32Array | Uint16Array, shape, dtype, device, options): DeviceTensor
Napi::Value upload(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const DeviceTensor from =
        host_values(info[0], dtype_of(info[2]), numbers<std::uint64_t>(info[1], "shape"));
    const DeviceChoice device = choose_device(text(info[3], "device"));
    return start_job(env, info[4], {info[0]}, [from, device](JobContext& job) -> Finish {
      const DeviceTensor to = make_device_tensor(device, from.dtype, from.shape, "a tensor");
      copy_in_pieces(from, to, job);
      return wrapped(to);
    });
  });
}

// deviceUploadTensor(tensor: NativeTensor, dtype | undefined, device, options): DeviceTensor. The dtype of
// the tensor, or F32, to which any other is widened.
Napi::Value upload_tensor(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Tensor from = TensorClass::of(info[0], "values");
    const Dtype dtype = info[1].IsUndefined() ? from.dtype : dtype_of(info[1]);
    require(dtype == Dtype::f32 || dtype == from.dtype, ErrorCode::invalid_argument,
            from.name + " is " + dtype_name(from.dtype) + ": it can be taken as it is, or as F32");
    require(dtype == Dtype::f32 || dtype == Dtype::bf16 || dtype == Dtype::f16, ErrorCode::invalid_argument,
            from.name + " is " + dtype_name(from.dtype) + ", expected F32, BF16 or F16, or dtype F32");
    const bool direct = dtype == from.dtype && is_contiguous(from);
    require(direct || dtype == Dtype::f32, ErrorCode::invalid_argument,
            from.name + " has gaps: it can be taken as F32");
    const DeviceChoice device = choose_device(text(info[2], "device"));
    return start_job(env, info[3], {}, [from, dtype, direct, device](JobContext& job) -> Finish {
      const DeviceTensor to = make_device_tensor(device, dtype, from.shape, from.name);
      if (direct) {
        const DeviceTensor source = {
            {},     dtype, from.shape, contiguous_strides(from.shape), const_cast<std::uint8_t*>(from.data),
            nullptr};
        copy_in_pieces(source, to, job);
        return wrapped(to);
      }
      const std::uint64_t elements = from.elements(), step = kPieceBytes / sizeof(float);
      AlignedBuffer<float> piece(std::min(step, elements));
      const DeviceTensor flat = reshaped(to, {elements});
      for (std::uint64_t first = 0; first < elements; first += step) {
        job.check();
        const std::uint64_t count = std::min(step, elements - first);
        read_f32(from, first, count, piece.data());
        copy_tensor({{}, dtype, {count}, {1}, piece.data(), nullptr}, sliced(flat, 0, first, first + count));
        job.progress(static_cast<double>(first + count), static_cast<double>(elements));
      }
      return wrapped(to);
    });
  });
}

// deviceZeros(shape, dtype, device, options): DeviceTensor
Napi::Value zeros(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto shape = numbers<std::uint64_t>(info[0], "shape");
    const Dtype dtype = dtype_of(info[1]);
    const DeviceChoice device = choose_device(text(info[2], "device"));
    return start_job(env, info[3], {}, [shape, dtype, device](JobContext& job) -> Finish {
      const DeviceTensor to = make_device_tensor(device, dtype, shape, "a tensor");
      const std::uint64_t elements = to.elements(), step = kPieceBytes / dtype_size(dtype);
      std::vector<std::uint8_t> piece(std::min(step, elements) * dtype_size(dtype), 0);
      const DeviceTensor flat = reshaped(to, {elements});
      for (std::uint64_t first = 0; first < elements; first += step) {
        job.check();
        const std::uint64_t count = std::min(step, elements - first);
        copy_tensor({{}, dtype, {count}, {1}, piece.data(), nullptr}, sliced(flat, 0, first, first + count));
      }
      return wrapped(to);
    });
  });
}

// steerRows(x: Float32Array | DeviceTensor, {operation, width, groups, dimensions, vectors, amounts?, low?,
// high?, centre?, mask?, group?}, options): changes x in place
Napi::Value steer_rows(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const auto given = object(info[1], "steering");
    SteerArgs args;
    args.kind = static_cast<SteerKind>(whole_number(given.Get("operation"), "operation", 0, 3));
    args.width = whole_number(given.Get("width"), "width", 1, std::uint64_t{1} << 20);
    args.groups = whole_number(given.Get("groups"), "groups", 1, std::uint64_t{1} << 32);
    args.dimensions = whole_number(given.Get("dimensions"), "dimensions", 1, kMostSteerDimensions);
    const DeviceTensor x = activations(info[0], args.width, "x");
    const std::size_t rows = rows_of(x, "x").rows, count = args.groups * args.dimensions;
    args.vectors = typed_array<float>(given.Get("vectors"), "vectors", count * args.width).data;
    args.amounts = optional_typed_array<float>(given.Get("amounts"), "amounts", count).data;
    args.low = optional_typed_array<float>(given.Get("low"), "low", count).data;
    args.high = optional_typed_array<float>(given.Get("high"), "high", count).data;
    args.centre = optional_typed_array<float>(given.Get("centre"), "centre", args.width).data;
    args.mask = optional_typed_array<std::uint8_t>(given.Get("mask"), "mask", rows).data;
    args.group = optional_typed_array<std::uint32_t>(given.Get("group"), "group", rows).data;
    std::vector<Napi::Value> keep = {info[0]};
    for (const char* name : {"vectors", "amounts", "low", "high", "centre", "mask", "group"})
      keep.push_back(given.Get(name));
    return start_job(env, info[2], keep, [x, args](JobContext& job) -> Finish {
      job.check();
      steer(x, args);
      return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
    });
  });
}

}  // namespace

Napi::Function DeviceTensorClass::define(Napi::Env env) {
  return DefineClass(
      env, "NativeDeviceTensor",
      {InstanceAccessor<&DeviceTensorClass::dtype>("dtype"),
       InstanceAccessor<&DeviceTensorClass::shape>("shape"),
       InstanceAccessor<&DeviceTensorClass::strides>("strides"),
       InstanceAccessor<&DeviceTensorClass::device>("device"),
       InstanceMethod("download", &DeviceTensorClass::download),
       InstanceMethod("bits", &DeviceTensorClass::bits), InstanceMethod("write", &DeviceTensorClass::write),
       InstanceMethod("slice", &DeviceTensorClass::slice),
       InstanceMethod("reshape", &DeviceTensorClass::reshape),
       InstanceMethod("free", &DeviceTensorClass::free)});
}

Napi::Object DeviceTensorClass::wrap(Napi::Env env, DeviceTensor tensor) {
  return Constructor<DeviceTensorClass>::wrap(env, std::move(tensor));
}

const DeviceTensor& DeviceTensorClass::of(const Napi::Value& value, const char* argument) {
  const auto* self = unwrapped<DeviceTensorClass>(value, argument);
  require(self->tensor_.has_value(), ErrorCode::invalid_argument,
          std::string(argument) + ": the tensor was freed");
  return *self->tensor_;
}

DeviceTensorClass::DeviceTensorClass(const Napi::CallbackInfo& info) : ObjectWrap(info) {
  guarded(info.Env(), [&] {
    require(info[0].IsExternal(), ErrorCode::invalid_argument, "a DeviceTensor comes from an upload");
    tensor_ = *info[0].As<Napi::External<DeviceTensor>>().Data();
    info.This().As<Napi::Object>().TypeTag(&kTag);
    // So that garbage collection knows what forgotten ones hold.
    accounted_ = static_cast<std::int64_t>(tensor_->bytes());
    Napi::MemoryManagement::AdjustExternalMemory(info.Env(), accounted_);
  });
}

void DeviceTensorClass::Finalize(Napi::Env env) {
  Napi::MemoryManagement::AdjustExternalMemory(env, -accounted_);
}

const DeviceTensor& DeviceTensorClass::tensor() const {
  require(tensor_.has_value(), ErrorCode::invalid_argument, "the tensor was freed");
  return *tensor_;
}

Napi::Value DeviceTensorClass::dtype(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), dtype_name(tensor().dtype)); });
}

Napi::Value DeviceTensorClass::shape(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return list_of(info.Env(), tensor().shape); });
}

Napi::Value DeviceTensorClass::strides(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return list_of(info.Env(), tensor().strides); });
}

Napi::Value DeviceTensorClass::device(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&] { return Napi::String::New(info.Env(), device_name(tensor().device)); });
}

// download(options): Float32Array of all values, row-major.
Napi::Value DeviceTensorClass::download(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    return start_job(env, info[0], {}, [tensor = tensor()](JobContext& job) -> Finish {
      job.check();
      auto values = std::make_shared<AlignedBuffer<float>>(tensor.elements());
      personascope::read_f32(tensor, values->data());
      return [values](Napi::Env end) { return to_typed_array(end, std::move(*values)); };
    });
  });
}

// bits(options): Uint16Array of a tensor of BF16 or F16, row-major.
Napi::Value DeviceTensorClass::bits(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    require(dtype_size(tensor().dtype) == 2, ErrorCode::invalid_argument,
            std::string("bits: the tensor is ") + dtype_name(tensor().dtype) + ", expected BF16 or F16");
    return start_job(env, info[0], {}, [tensor = tensor()](JobContext& job) -> Finish {
      job.check();
      auto values = std::make_shared<AlignedBuffer<std::uint16_t>>(tensor.elements());
      copy_tensor(
          tensor,
          {{}, tensor.dtype, tensor.shape, contiguous_strides(tensor.shape), values->data(), nullptr});
      return [values](Napi::Env end) { return to_typed_array(end, std::move(*values)); };
    });
  });
}

// write(values: Float32Array | Uint16Array, options): replaces all values.
Napi::Value DeviceTensorClass::write(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const DeviceTensor from = host_values(info[0], tensor().dtype, tensor().shape);
    return start_job(env, info[1], {info[0]}, [from, to = tensor()](JobContext& job) -> Finish {
      copy_in_pieces(from, to, job);
      return [](Napi::Env end) -> Napi::Value { return end.Undefined(); };
    });
  });
}

Napi::Value DeviceTensorClass::slice(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    const std::size_t axis = whole_number(info[0], "axis", 0, 31);
    const std::uint64_t begin = whole_number(info[1], "begin", 0, kLargest),
                        end = whole_number(info[2], "end", 0, kLargest);
    return wrap(info.Env(), sliced(tensor(), axis, begin, end));
  });
}

Napi::Value DeviceTensorClass::reshape(const Napi::CallbackInfo& info) {
  return guarded(info.Env(), [&]() -> Napi::Value {
    return wrap(info.Env(), reshaped(tensor(), numbers<std::uint64_t>(info[0], "shape")));
  });
}

// free(): the memory goes with the last view of it, and with the last job that uses it.
Napi::Value DeviceTensorClass::free(const Napi::CallbackInfo& info) {
  tensor_.reset();
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), -accounted_);
  accounted_ = 0;
  return info.Env().Undefined();
}

DeviceTensor activations(const Napi::Value& value, std::size_t width, const char* argument) {
  if (!value.IsTypedArray()) return DeviceTensorClass::of(value, argument);
  const auto values = typed_array<float>(value, argument);
  require(values.size % width == 0, ErrorCode::invalid_argument,
          std::string(argument) + ": found " + std::to_string(values.size) +
              " values, expected a multiple of the width " + std::to_string(width));
  return host_rows(values.data, values.size / width, width, width);
}

void initialise_device_tensor(Napi::Env env, Napi::Object exports) {
  Constructor<DeviceTensorClass>::keep(env, DeviceTensorClass::define(env));
  exports.Set("deviceUpload", Napi::Function::New(env, upload));
  exports.Set("deviceUploadTensor", Napi::Function::New(env, upload_tensor));
  exports.Set("deviceZeros", Napi::Function::New(env, zeros));
  exports.Set("steerRows", Napi::Function::New(env, steer_rows));
}

}  // namespace personascope::addon
