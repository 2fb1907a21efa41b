#include "native/core/device_tensor.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "native/core/error.h"
#include "native/core/tensor.h"

namespace personascope {

namespace {

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

namespace {

// Bytes between two places, one of which may be a GPU.
void copy_bytes(const DeviceChoice& to_device, void* to, const DeviceChoice& from_device, const void* from,
                std::uint64_t bytes) {
  if (bytes == 0) return;
  if (!from_device.cuda && !to_device.cuda) {
    std::memmove(to, from, bytes);
    return;
  }
  const DeviceChoice& device = to_device.cuda ? to_device : from_device;
  const DevicePlugin& plugin = plugin_of(device);
  check_device(plugin, plugin.copy(device.index, to, from, bytes));
}

}  // namespace

TensorRows rows_of(const DeviceTensor& tensor, const char* what) {
  const auto refuse = [&](const std::string& why) {
    fail(ErrorCode::invalid_argument, std::string(what) + ": a tensor " + shape_text(tensor.shape) + why);
  };
  const std::size_t rank = tensor.shape.size();
  if (rank == 0) refuse(" has no rows");
  TensorRows rows = {1, tensor.shape.back(), tensor.shape.back()};
  for (std::size_t axis = 0; axis + 1 < rank; ++axis) rows.rows *= tensor.shape[axis];
  if (rows.width > 1 && tensor.strides.back() != 1) refuse(", expected values of a row without gaps");
  std::int64_t stride = 0;  // of the last axis of rows that has more than one
  std::uint64_t inner = 1;
  for (std::size_t axis = rank - 1; axis-- > 0;) {
    if (tensor.shape[axis] == 1) continue;
    if (stride == 0)
      stride = tensor.strides[axis];
    else if (tensor.strides[axis] != stride * static_cast<std::int64_t>(inner))
      refuse(", expected rows that lie one step after the other");
    inner *= tensor.shape[axis];
  }
  if (rows.rows > 1) {
    if (stride < static_cast<std::int64_t>(rows.width))
      refuse(" with rows " + std::to_string(stride) + " values apart, expected at least its width");
    rows.stride = static_cast<std::uint64_t>(stride);
  }
  return rows;
}

DeviceTensor sliced(const DeviceTensor& tensor, std::size_t axis, std::uint64_t begin, std::uint64_t end) {
  require(axis < tensor.shape.size() && begin <= end && end <= tensor.shape[axis],
          ErrorCode::invalid_argument,
          "slice " + std::to_string(begin) + " to " + std::to_string(end) + " of axis " +
              std::to_string(axis) + ": the tensor is " + shape_text(tensor.shape));
  DeviceTensor view = tensor;
  view.shape[axis] = end - begin;
  view.data =
      static_cast<std::uint8_t*>(tensor.data) + static_cast<std::int64_t>(begin) * tensor.strides[axis] *
                                                    static_cast<std::int64_t>(dtype_size(tensor.dtype));
  return view;
}

DeviceTensor reshaped(const DeviceTensor& tensor, const std::vector<std::uint64_t>& shape) {
  std::uint64_t elements = 1;
  bool overflow = false;
  for (const std::uint64_t extent : shape)
    overflow = overflow || __builtin_mul_overflow(elements, extent, &elements);
  require(!overflow && elements == tensor.elements() && tensor.contiguous(), ErrorCode::invalid_argument,
          "a tensor " + shape_text(tensor.shape) + (tensor.contiguous() ? "" : " with gaps") +
              " cannot be viewed as " + shape_text(shape));
  DeviceTensor view = tensor;
  view.shape = shape;
  view.strides = contiguous_strides(shape);
  return view;
}

DeviceTensor host_rows(const float* values, std::uint64_t rows, std::uint64_t width, std::uint64_t stride) {
  // Nothing writes to what is read as activations.
  return {
      {},     Dtype::f32, {rows, width}, {static_cast<std::int64_t>(stride), 1}, const_cast<float*>(values),
      nullptr};
}

void copy_tensor(const DeviceTensor& from, const DeviceTensor& to) {
  const auto agree = [&](bool holds) {
    require(
        holds, ErrorCode::invalid_argument,
        std::string("copying a tensor: ") + dtype_name(from.dtype) + " " + shape_text(from.shape) + " to " +
            dtype_name(to.dtype) + " " + shape_text(to.shape) +
            ", expected equal dtypes and numbers of elements, and rows of one width where there are gaps");
  };
  agree(from.dtype == to.dtype && from.elements() == to.elements());
  if (from.elements() == 0) return;
  if (from.contiguous() && to.contiguous())
    return copy_bytes(to.device, to.data, from.device, from.data, from.bytes());
  const TensorRows source = rows_of(from, "copying a tensor"), target = rows_of(to, "copying a tensor");
  agree(source.width == target.width);
  const std::uint64_t size = dtype_size(from.dtype), row = source.width * size;
  const auto* at = static_cast<const std::uint8_t*>(from.data);
  auto* out = static_cast<std::uint8_t*>(to.data);
  for (std::uint64_t r = 0; r < source.rows; ++r)
    copy_bytes(to.device, out + r * target.stride * size, from.device, at + r * source.stride * size, row);
}

void read_f32(const DeviceTensor& tensor, float* out) {
  const DeviceTensor direct = {{},  tensor.dtype, tensor.shape, contiguous_strides(tensor.shape),
                               out, nullptr};
  if (tensor.dtype == Dtype::f32) return copy_tensor(tensor, direct);
  require(tensor.dtype == Dtype::f16 || tensor.dtype == Dtype::bf16 || tensor.dtype == Dtype::f64,
          ErrorCode::format,
          std::string("a tensor is of ") + dtype_name(tensor.dtype) + ", expected F32, F16, BF16 or F64");
  // On the host, a piece at a time.
  const TensorRows rows = rows_of(tensor, "reading a tensor");
  const std::uint64_t size = dtype_size(tensor.dtype);
  const std::uint64_t step =
      std::clamp<std::uint64_t>((std::uint64_t{1} << 22) / std::max<std::uint64_t>(1, rows.width), 1,
                                std::max<std::uint64_t>(1, rows.rows));
  std::vector<std::uint8_t> staging(step * rows.width * size);
  for (std::uint64_t first = 0; first < rows.rows; first += step) {
    const std::uint64_t count = std::min(step, rows.rows - first);
    const std::vector<std::uint64_t> shape = {count, rows.width};
    const DeviceTensor piece = {tensor.device,
                                tensor.dtype,
                                shape,
                                {static_cast<std::int64_t>(rows.stride), 1},
                                static_cast<std::uint8_t*>(tensor.data) + first * rows.stride * size,
                                nullptr};
    copy_tensor(piece, {{}, tensor.dtype, shape, contiguous_strides(shape), staging.data(), nullptr});
    const Tensor here = {"a tensor", tensor.dtype, shape, contiguous_strides(shape), staging.data(), nullptr};
    read_f32(here, 0, count * rows.width, out + first * rows.width);
  }
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
  const bool cuda = given.device.device_type == kDLCUDA;
  tensor.device = {cuda, cuda ? given.device.device_id : 0};
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
