#include "native/core/tensor.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "native/core/error.h"
#include "native/core/half.h"
#include "native/core/thread_pool.h"

namespace personascope {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are read in place");

// Values [first, first + count) of a tensor, a run along its last axis at a time.
template <class Source, class Convert>
void read_runs(const Tensor& tensor, std::uint64_t first, std::uint64_t count, float* out,
               const Convert& convert) {
  const std::size_t rank = tensor.shape.size();
  const std::uint64_t extent = rank == 0 ? 1 : tensor.shape[rank - 1];
  const std::int64_t stride = rank == 0 ? 1 : tensor.strides[rank - 1];
  while (count > 0) {
    std::uint64_t rest = first / extent, column = first % extent;
    std::int64_t offset = static_cast<std::int64_t>(column) * stride;
    for (std::size_t axis = rank == 0 ? 0 : rank - 1; axis-- > 0;) {
      offset += static_cast<std::int64_t>(rest % tensor.shape[axis]) * tensor.strides[axis];
      rest /= tensor.shape[axis];
    }
    const std::uint64_t run = std::min(count, extent - column);
    const auto* at = tensor.data + offset * static_cast<std::int64_t>(sizeof(Source));
    const std::int64_t step = stride * static_cast<std::int64_t>(sizeof(Source));
    for (std::uint64_t i = 0; i < run; ++i) {
      Source value;  // the mapping may be unaligned
      std::memcpy(&value, at + static_cast<std::int64_t>(i) * step, sizeof(Source));
      out[i] = convert(value);
    }
    first += run;
    count -= run;
    out += run;
  }
}

// Whole rows [begin, end) of a matrix whose columns lie closer than its rows' values: in square tiles, so
// that neither side is walked a cache line a value.
template <class Source, class Convert>
void read_tiles(const Tensor& tensor, std::uint64_t begin, std::uint64_t end, float* out,
                const Convert& convert) {
  constexpr std::uint64_t kTile = 64;
  const std::uint64_t columns = tensor.shape[1];
  for (std::uint64_t row = begin; row < end; row += kTile)
    for (std::uint64_t column = 0; column < columns; column += kTile)
      for (std::uint64_t j = column; j < std::min(columns, column + kTile); ++j)
        for (std::uint64_t i = row; i < std::min(end, row + kTile); ++i) {
          const std::int64_t place = static_cast<std::int64_t>(i) * tensor.strides[0] +
                                     static_cast<std::int64_t>(j) * tensor.strides[1];
          Source value;
          std::memcpy(&value, tensor.data + place * static_cast<std::int64_t>(sizeof(Source)),
                      sizeof(Source));
          out[(i - begin) * columns + j] = convert(value);
        }
}

template <class Source, class Convert>
void read_values(const Tensor& tensor, std::uint64_t first, std::uint64_t count, float* out,
                 const Convert& convert) {
  constexpr std::size_t kGrain = std::size_t{1} << 18;
  const bool by_tiles = tensor.shape.size() == 2 && tensor.shape[1] > 1 &&
                        std::abs(tensor.strides[1]) > std::abs(tensor.strides[0]) &&
                        first % tensor.shape[1] == 0 && count % tensor.shape[1] == 0;
  if (by_tiles) {
    const std::uint64_t columns = tensor.shape[1], top = first / columns;
    // Chunks of 64 rows at least: narrower ones would read each cache line several times.
    parallel_for(count / columns, std::max<std::size_t>(64, kGrain / columns),
                 [&](std::size_t begin, std::size_t end) {
                   read_tiles<Source>(tensor, top + begin, top + end, out + begin * columns, convert);
                 });
    return;
  }
  parallel_for(count, kGrain, [&](std::size_t begin, std::size_t end) {
    read_runs<Source>(tensor, first + begin, end - begin, out + begin, convert);
  });
}

}  // namespace

std::vector<std::int64_t> contiguous_strides(const std::vector<std::uint64_t>& shape) {
  std::vector<std::int64_t> strides(shape.size());
  std::uint64_t step = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    strides[axis] = static_cast<std::int64_t>(step);
    step *= std::max<std::uint64_t>(1, shape[axis]);
  }
  return strides;
}

bool is_contiguous(const Tensor& tensor) {
  const auto expected = contiguous_strides(tensor.shape);
  for (std::size_t axis = 0; axis < expected.size(); ++axis)
    if (tensor.shape[axis] > 1 && tensor.strides[axis] != expected[axis]) return false;
  return true;
}

Tensor permuted(const Tensor& tensor, const std::vector<std::size_t>& axes) {
  const std::size_t rank = tensor.shape.size();
  std::vector<bool> seen(rank);
  bool good = axes.size() == rank;
  for (std::size_t i = 0; good && i < rank; ++i) {
    good = axes[i] < rank && !seen[axes[i]];
    if (good) seen[axes[i]] = true;
  }
  require(good, ErrorCode::invalid_argument,
          tensor.name + ": the axes are no permutation of 0 to " + std::to_string(rank) + " (exclusive)");
  Tensor result = tensor;
  for (std::size_t i = 0; i < rank; ++i) {
    result.shape[i] = tensor.shape[axes[i]];
    result.strides[i] = tensor.strides[axes[i]];
  }
  return result;
}

Tensor transposed(const Tensor& tensor) {
  Tensor result = tensor;
  std::reverse(result.shape.begin(), result.shape.end());
  std::reverse(result.strides.begin(), result.strides.end());
  return result;
}

Tensor reshaped(const Tensor& tensor, const std::vector<std::uint64_t>& shape) {
  std::uint64_t elements = 1;
  bool overflow = false;
  for (const std::uint64_t extent : shape)
    overflow = overflow || __builtin_mul_overflow(elements, extent, &elements);
  require(!overflow && elements == tensor.elements() && is_contiguous(tensor), ErrorCode::invalid_argument,
          tensor.name + ": " + shape_text(tensor.shape) + " cannot be viewed as " + shape_text(shape));
  Tensor result = tensor;
  result.shape = shape;
  result.strides = contiguous_strides(shape);
  return result;
}

void read_f32(const Tensor& tensor, std::uint64_t first, std::uint64_t count, float* out) {
  const std::uint64_t elements = tensor.elements();
  require(first <= elements && count <= elements - first, ErrorCode::invalid_argument,
          tensor.name + ": values " + std::to_string(first) + " to " + std::to_string(first + count) +
              " of " + std::to_string(elements));
  if (count == 0) return;
  switch (tensor.dtype) {
    case Dtype::f32:
      return read_values<float>(tensor, first, count, out, [](float value) { return value; });
    case Dtype::f16:
      return read_values<std::uint16_t>(tensor, first, count, out, f16_to_f32);
    case Dtype::bf16:
      return read_values<std::uint16_t>(tensor, first, count, out, bf16_to_f32);
    case Dtype::f64:
      return read_values<double>(tensor, first, count, out,
                                 [](double value) { return static_cast<float>(value); });
    default:
      fail(ErrorCode::format,
           tensor.name + " is of " + dtype_name(tensor.dtype) + ", expected F32, F16, BF16 or F64");
  }
}

void row_norms(const Tensor& tensor, float* out, const std::function<void(std::uint64_t rows)>& check) {
  const std::uint64_t rows = tensor.shape.empty() ? 0 : tensor.shape[0];
  if (rows == 0) return;
  const std::uint64_t width = tensor.elements() / rows;
  const std::uint64_t step =
      std::max<std::uint64_t>(1, (std::uint64_t{1} << 22) / std::max<std::uint64_t>(1, width));
  std::vector<float> piece(std::min(step, rows) * width);
  for (std::uint64_t begin = 0; begin < rows; begin += step) {
    const std::uint64_t end = std::min(rows, begin + step);
    read_f32(tensor, begin * width, (end - begin) * width, piece.data());
    parallel_for(end - begin, 64, [&](std::size_t first, std::size_t last) {
      for (std::size_t row = first; row < last; ++row) {
        double squares = 0;
        for (std::uint64_t i = 0; i < width; ++i) {
          const double value = piece[row * width + i];
          squares += value * value;
        }
        out[begin + row] = static_cast<float>(std::sqrt(squares));
      }
    });
    check(end);
  }
}

double item(const Tensor& tensor) {
  require(tensor.elements() == 1, ErrorCode::format,
          tensor.name + " has shape " + shape_text(tensor.shape) + ", expected one value");
  const auto as = [&](auto zero) {
    std::memcpy(&zero, tensor.data, sizeof zero);
    return static_cast<double>(zero);
  };
  switch (tensor.dtype) {
    case Dtype::i64:
      return as(std::int64_t{});
    case Dtype::i32:
      return as(std::int32_t{});
    case Dtype::i16:
      return as(std::int16_t{});
    case Dtype::i8:
      return as(std::int8_t{});
    case Dtype::u64:
      return as(std::uint64_t{});
    case Dtype::u32:
      return as(std::uint32_t{});
    case Dtype::u16:
      return as(std::uint16_t{});
    case Dtype::u8:
    case Dtype::boolean:
      return as(std::uint8_t{});
    case Dtype::f64:
      return as(double{});
    default: {
      float value = 0;
      read_f32(tensor, 0, 1, &value);
      return value;
    }
  }
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

}  // namespace personascope
