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

// Row-major, not cleared. Throws out_of_memory: `what` and the size are named, and what is free.
DeviceTensor make_device_tensor(const DeviceChoice& device, Dtype dtype,
                                const std::vector<std::uint64_t>& shape, const std::string& what);
// Copies all elements, between any two places. Throws invalid_argument unless both are contiguous and agree
// in dtype and number of elements.
void copy_tensor(const DeviceTensor& from, const DeviceTensor& to);

// Takes the tensor over, no copy; its deleter runs with the last owner. Where it throws (format: a dtype or
// device that is not known), the caller keeps it.
DeviceTensor from_dlpack(DLManagedTensor* tensor);
// The receiver owns the result, which keeps the memory alive; no copy.
DLManagedTensor* to_dlpack(const DeviceTensor& tensor);

}  // namespace personascope
