#include "native/core/device_tensor.h"

#include <cstdlib>
#include <cstring>
#include <limits>

#include "native/core/error.h"
#include "native/core/tensor.h"

namespace personascope {

namespace {

const DevicePlugin& plugin_of(const DeviceChoice& device) {
  const DevicePlugin* plugin = cuda_plugin();
  require(plugin != nullptr && device.index >= 0 && device.index < plugin->device_count(),
          ErrorCode::not_found,
          "device cuda:" + std::to_string(device.index) + " is not there: " + cuda_plugin_state().reason);
  return *plugin;
}

struct DlType {
  Dtype dtype;
  DLDataType type;
};
constexpr DlType kTypes[] = {
    {Dtype::f64, {kDLFloat, 64, 1}},   {Dtype::f32, {kDLFloat, 32, 1}}, {Dtype::f16, {kDLFloat, 16, 1}},
    {Dtype::bf16, {kDLBfloat, 16, 1}}, {Dtype::i64, {kDLInt, 64, 1}},   {Dtype::i32, {kDLInt, 32, 1}},
    {Dtype::i16, {kDLInt, 16, 1}},     {Dtype::i8, {kDLInt, 8, 1}},     {Dtype::u64, {kDLUInt, 64, 1}},
    {Dtype::u32, {kDLUInt, 32, 1}},    {Dtype::u16, {kDLUInt, 16, 1}},  {Dtype::u8, {kDLUInt, 8, 1}}};

// What an exported tensor keeps.
struct Exported {
  DLManagedTensor managed = {};
  DeviceTensor tensor;
  std::vector<std::int64_t> shape;
};

}  // namespace

std::uint64_t DeviceTensor::elements() const {
  std::uint64_t product = 1;
  for (const std::uint64_t extent : shape) product *= extent;
  return product;
}

bool DeviceTensor::contiguous() const {
  std::int64_t step = 1;
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] != 1 && strides[i] != step) return false;
    step *= static_cast<std::int64_t>(shape[i]);
  }
  return true;
}

DeviceTensor make_device_tensor(const DeviceChoice& device, Dtype dtype,
                                const std::vector<std::uint64_t>& shape, const std::string& what) {
  std::uint64_t bytes = dtype_size(dtype);
  for (const std::uint64_t extent : shape) {
    require(extent == 0 || bytes <= std::numeric_limits<std::int64_t>::max() / extent,
            ErrorCode::invalid_argument,
            what + ": a tensor " + shape_text(shape) + " is larger than any memory");
    bytes *= extent;
  }
  DeviceTensor tensor{device, dtype, shape, contiguous_strides(shape), nullptr, nullptr};
  if (device.cuda) {
    const DevicePlugin& plugin = plugin_of(device);
    check_device(plugin, plugin.allocate(device.index, bytes, what.c_str(), &tensor.data));
    tensor.owner = {tensor.data,
                    [&plugin, index = device.index](void* memory) { plugin.release(index, memory); }};
    return tensor;
  }
  tensor.data = std::aligned_alloc(64, (bytes + 64) / 64 * 64);
  require(tensor.data != nullptr, ErrorCode::out_of_memory,
          "memory for " + what + ": " + std::to_string(bytes) + " bytes asked for");
  tensor.owner = {tensor.data, std::free};
  return tensor;
}

void copy_tensor(const DeviceTensor& from, const DeviceTensor& to) {
  require(from.dtype == to.dtype && from.elements() == to.elements() && from.contiguous() && to.contiguous(),
          ErrorCode::invalid_argument,
          std::string("copying a tensor: ") + dtype_name(from.dtype) + " " + shape_text(from.shape) + " to " +
              dtype_name(to.dtype) + " " + shape_text(to.shape) +
              ", expected equal dtypes and numbers of elements, both without gaps");
  if (from.bytes() == 0) return;
  if (!from.device.cuda && !to.device.cuda) {
    std::memmove(to.data, from.data, from.bytes());
    return;
  }
  const DeviceChoice& device = to.device.cuda ? to.device : from.device;
  const DevicePlugin& plugin = plugin_of(device);
  check_device(plugin, plugin.copy(device.index, to.data, from.data, from.bytes()));
}

DeviceTensor from_dlpack(DLManagedTensor* managed) {
  require(managed != nullptr, ErrorCode::invalid_argument, "DLPack: no tensor");
  const DLTensor& given = managed->dl_tensor;
  DeviceTensor tensor;
  const DlType* found = nullptr;
  for (const DlType& type : kTypes)
    if (type.type.code == given.dtype.code && type.type.bits == given.dtype.bits && given.dtype.lanes == 1)
      found = &type;
  require(found != nullptr, ErrorCode::format,
          "DLPack: a dtype of code " + std::to_string(given.dtype.code) + ", " +
              std::to_string(given.dtype.bits) + " bits and " + std::to_string(given.dtype.lanes) + " lanes");
  tensor.dtype = found->dtype;
  require(
      given.device.device_type >= kDLCPU && given.device.device_type <= kDLCUDAHost, ErrorCode::format,
      "DLPack: a device of type " + std::to_string(given.device.device_type) + ", expected the CPU or CUDA");
  tensor.device = {given.device.device_type == kDLCUDA, given.device.device_id};
  require(given.ndim >= 0 && (given.ndim == 0 || given.shape), ErrorCode::format,
          "DLPack: a tensor without a shape");
  for (std::int32_t i = 0; i < given.ndim; ++i) {
    require(given.shape[i] >= 0, ErrorCode::format,
            "DLPack: dimension " + std::to_string(i) + " has extent " + std::to_string(given.shape[i]));
    tensor.shape.push_back(static_cast<std::uint64_t>(given.shape[i]));
  }
  if (given.strides)
    tensor.strides.assign(given.strides, given.strides + given.ndim);
  else
    tensor.strides = contiguous_strides(tensor.shape);
  require(given.data || tensor.elements() == 0, ErrorCode::format, "DLPack: a tensor without data");
  tensor.data = static_cast<std::uint8_t*>(given.data) + given.byte_offset;
  tensor.owner = {managed, [](void* memory) {
                    auto* owned = static_cast<DLManagedTensor*>(memory);
                    if (owned->deleter) owned->deleter(owned);
                  }};
  return tensor;
}

DLManagedTensor* to_dlpack(const DeviceTensor& tensor) {
  const DlType* found = nullptr;
  for (const DlType& type : kTypes)
    if (type.dtype == tensor.dtype) found = &type;
  require(found != nullptr, ErrorCode::format,
          std::string("DLPack: has no dtype ") + dtype_name(tensor.dtype));
  auto exported = std::make_unique<Exported>();
  exported->tensor = tensor;
  exported->shape.assign(tensor.shape.begin(), tensor.shape.end());
  exported->managed.dl_tensor = {tensor.data,
                                 {tensor.device.cuda ? kDLCUDA : kDLCPU, tensor.device.index},
                                 static_cast<std::int32_t>(tensor.shape.size()),
                                 found->type,
                                 exported->shape.data(),
                                 exported->tensor.strides.data(),
                                 0};
  exported->managed.manager_ctx = exported.get();
  exported->managed.deleter = [](DLManagedTensor* self) { delete static_cast<Exported*>(self->manager_ctx); };
  return &exported.release()->managed;
}

}  // namespace personascope
