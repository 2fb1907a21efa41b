// Rows of a matrix where they lie, perhaps in a mapped file: fp32, bf16 or f16, each row contiguous.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/dtype.h"

namespace personascope {

struct RowView {
  const std::uint8_t* data = nullptr;  // aligned to the element
  Dtype dtype = Dtype::f32;            // f32, bf16 or f16
  std::size_t stride = 0;              // bytes from row to row
  std::size_t rows = 0, width = 0;     // elements a row

  const std::uint8_t* row(std::size_t i) const { return data + i * stride; }
};

}  // namespace personascope
