// Codes that lie on a device, packed.
#pragma once
#include <cstdint>

#include "cuda/device/runtime.h"
#include "native/core/device_api.h"

namespace personascope {

struct DeviceCodes {
  int device = 0;
  std::uint64_t tokens = 0, pairs = 0;
  cuda::Buffer<std::uint64_t> offsets;  // [tokens + 1]
  cuda::Buffer<std::uint32_t> indices;  // [pairs]
  cuda::Buffer<float> values;
};

}  // namespace personascope
