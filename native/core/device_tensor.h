// Tensors that lie on the host or on a GPU, and DLPack in and out.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "native/core/dlpack.h"
#include "native/core/dtype.h"
#include "native/core/plugin.h"

namespace personascope {

struct DeviceTensor {
  DeviceChoice device;
  Dtype dtype = Dtype::f32;
  std::vector<std::uint64_t> shape;   // empty for a scalar
  std::vector<std::int64_t> strides;  // in elements
  void* data = nullptr;
  std::shared_ptr<void> owner;  // frees the memory, or gives it back

  std::uint64_t elements() const;
  std::uint64_t bytes() const { return elements() * dtype_size(dtype); }
  bool contiguous() const;
};

// A tensor as rows along its last axis.
struct TensorRows {
  std::uint64_t rows = 0, width = 0;
  std::uint64_t stride = 0;  // elements from row to row, at least the width
};
// Throws invalid_argument, naming `what`, unless rows lie without gaps, one step after the other, and none
// overlap.
TensorRows rows_of(const DeviceTensor& tensor, const char* what);

// Views of the same memory. Throw invalid_argument: an axis or a range that is not there; a tensor with gaps,
// or another number of elements.
DeviceTensor sliced(const DeviceTensor& tensor, std::size_t axis, std::uint64_t begin, std::uint64_t end);
DeviceTensor reshaped(const DeviceTensor& tensor, const std::vector<std::uint64_t>& shape);
// A caller's matrix of the host, rows `stride` values apart; the caller keeps it.
DeviceTensor host_rows(const float* values, std::uint64_t rows, std::uint64_t width, std::uint64_t stride);

// Row-major, not cleared. Throws out_of_memory: `what` and the size are named, and what is free.
DeviceTensor make_device_tensor(const DeviceChoice& device, Dtype dtype,
                                const std::vector<std::uint64_t>& shape, const std::string& what);
// Copies all elements, between any two places. Throws invalid_argument unless both agree in dtype and number
// of elements, and both are contiguous or have rows (as rows_of() wants them) of one width.
void copy_tensor(const DeviceTensor& from, const DeviceTensor& to);

// The values as fp32, on the host, row-major: F32, F16 and BF16 exactly, F64 rounded. Throws format for other
// dtypes, and invalid_argument as rows_of().
void read_f32(const DeviceTensor& tensor, float* out);

// Takes the tensor over, no copy; its deleter runs with the last owner. Where it throws (format: a dtype or
// device that is not known), the caller keeps it.
DeviceTensor from_dlpack(DLManagedTensor* tensor);
// The receiver owns the result, which keeps the memory alive; no copy.
DLManagedTensor* to_dlpack(const DeviceTensor& tensor);

}  // namespace personascope
