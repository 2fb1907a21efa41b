// Arrays as numpy saves them (numpy.lib.format, versions 1.0 to 3.0): magic, version, length, a Python
// literal
// {'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }, then the values.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "native/core/tensor.h"

namespace personascope {

// A view of the array that fills these bytes, column-major ones with their strides; `owner` keeps them alive.
// `where` begins messages and becomes the tensor's name. Safe for arbitrary input; throws format for
// anything but little-endian or single-byte bool, integer and floating-point values (objects are pickles).
Tensor parse_npy(const std::uint8_t* bytes, std::size_t size, const std::string& where,
                 std::shared_ptr<const void> owner);

// The bytes begin as those of an array do.
bool looks_like_npy(const std::uint8_t* bytes, std::size_t size);

}  // namespace personascope
