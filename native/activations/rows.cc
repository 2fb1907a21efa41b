#include "native/activations/rows.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <string>

#include "native/core/error.h"
#include "native/core/finite.h"
#include "native/core/half.h"
#include "native/core/pages.h"

namespace personascope {

namespace {

template <class Stored, class Convert>
void convert(const std::uint8_t* from, std::uint64_t count, float* out, const Convert& to_float) {
  for (std::uint64_t i = 0; i < count; ++i) {
    Stored value;
    std::memcpy(&value, from + i * sizeof(Stored), sizeof(Stored));
    out[i] = to_float(value);
  }
}

// What stands there, as it is said of a value that fp32 cannot hold.
std::string text_of(const Tensor& tensor, std::uint64_t row, std::uint64_t column, float converted) {
  if (tensor.dtype != Dtype::f64) return std::to_string(converted);
  double value;
  std::memcpy(&value,
              tensor.data + (static_cast<std::int64_t>(row) * tensor.strides[0] +
                             static_cast<std::int64_t>(column) * tensor.strides[1]) *
                                static_cast<std::int64_t>(sizeof value),
              sizeof value);
  if (!std::isfinite(value)) return std::to_string(value);
  char text[64];
  std::snprintf(text, sizeof text, "%g, beyond the range of F32", value);
  return text;
}

std::uint64_t row_bytes(const Tensor& tensor) {
  return tensor.shape[1] * dtype_size(tensor.dtype);
}

void check_range(const Tensor& tensor, std::uint64_t first, std::uint64_t count) {
  require(tensor.shape.size() == 2, ErrorCode::invalid_argument,
          tensor.name + ": has shape " + shape_text(tensor.shape) + ", expected [rows, width]");
  require(first <= tensor.shape[0] && count <= tensor.shape[0] - first, ErrorCode::invalid_argument,
          tensor.name + ": rows " + std::to_string(first) + " to " + std::to_string(first + count) + " of " +
              std::to_string(tensor.shape[0]));
}

}  // namespace

void read_rows(const Tensor& activations, std::uint64_t first, std::uint64_t count, float* out) {
  check_range(activations, first, count);
  const std::uint64_t width = activations.shape[1], values = count * width;
  if (is_contiguous(activations)) {
    const std::uint8_t* from = activations.data + first * row_bytes(activations);
    switch (activations.dtype) {
      case Dtype::f32:
        if (values > 0) std::memcpy(out, from, values * sizeof(float));
        break;
      case Dtype::f16:
        convert<std::uint16_t>(from, values, out, f16_to_f32);
        break;
      case Dtype::bf16:
        convert<std::uint16_t>(from, values, out, bf16_to_f32);
        break;
      case Dtype::f64:
        convert<double>(from, values, out, [](double value) { return static_cast<float>(value); });
        break;
      default:
        fail(ErrorCode::format, activations.name + ": is of " + dtype_name(activations.dtype) +
                                    ", expected F32, F16, BF16 or F64");
    }
  } else {
    read_f32(activations, first * width, values, out);
  }
  const std::size_t bad = first_non_finite(out, values);
  if (bad < values) {
    const std::uint64_t row = first + bad / width, column = bad % width;
    fail(ErrorCode::non_finite, activations.name + ": row " + std::to_string(row) + ", component " +
                                    std::to_string(column) + " is " +
                                    text_of(activations, row, column, out[bad]));
  }
}

void prefetch_rows(const Tensor& mapped, std::uint64_t first, std::uint64_t count) {
  check_range(mapped, first, count);
  if (is_contiguous(mapped)) want_pages(mapped.data + first * row_bytes(mapped), count * row_bytes(mapped));
}

bool rows_in_memory(const Tensor& mapped) {
  check_range(mapped, 0, 0);
  return is_contiguous(mapped) && mostly_in_memory(mapped.data, mapped.shape[0] * row_bytes(mapped));
}

void release_rows(const Tensor& mapped, std::uint64_t first, std::uint64_t count, Release how) {
  check_range(mapped, first, count);
  if (!is_contiguous(mapped)) return;
  const std::uint8_t* const data = mapped.data + first * row_bytes(mapped);
  const std::uint64_t bytes = count * row_bytes(mapped);
  if (how == Release::evict) evict_pages(data, bytes);
  forget_pages(data, bytes);
}

}  // namespace personascope
