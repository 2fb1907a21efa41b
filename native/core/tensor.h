// A view of a tensor that lies somewhere in memory, usually in a mapped file: nothing is copied or converted
// until somebody reads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "native/core/dtype.h"

namespace personascope {

struct Tensor {
  std::string name;  // for messages: the file and the tensor
  Dtype dtype = Dtype::f32;
  std::vector<std::uint64_t> shape;    // empty for a scalar
  std::vector<std::int64_t> strides;   // in elements, one a dimension
  const std::uint8_t* data = nullptr;  // of element 0; not always aligned to the element
  std::shared_ptr<const void> owner;   // keeps `data` alive

  std::uint64_t elements() const {
    std::uint64_t product = 1;
    for (const std::uint64_t extent : shape) product *= extent;
    return product;
  }
};

}  // namespace personascope
