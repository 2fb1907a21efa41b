// A view of a tensor that lies somewhere in memory, usually in a mapped file: nothing is copied or converted
// until somebody reads.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
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

// Strides of a shape that lies row-major without gaps.
std::vector<std::int64_t> contiguous_strides(const std::vector<std::uint64_t>& shape);
// Elements lie one after the other in row-major order.
bool is_contiguous(const Tensor& tensor);

// Views of the same memory. Axis i of the result is axis axes[i] of `tensor`; throws invalid_argument unless
// `axes` is a permutation.
Tensor permuted(const Tensor& tensor, const std::vector<std::size_t>& axes);
// The axes in reverse order.
Tensor transposed(const Tensor& tensor);
// Throws invalid_argument unless the tensor is contiguous and has as many elements.
Tensor reshaped(const Tensor& tensor, const std::vector<std::uint64_t>& shape);

// Writes the values [first, first + count), counted in row-major order of the shape whatever the strides, as
// fp32 to `out`: F32, F16 and BF16 exactly, F64 rounded to nearest. Uses the thread pool. Throws format for
// other dtypes, invalid_argument for a range that is not there.
void read_f32(const Tensor& tensor, std::uint64_t first, std::uint64_t count, float* out);

// Euclidean norms of the slices of the first axis, summed in fp64: out [shape[0]]. `check` is called now and
// then. Errors as read_f32.
void row_norms(const Tensor& tensor, float* out, const std::function<void(std::uint64_t rows)>& check);

// The one value of a tensor of one element, of any dtype but F8; throws format otherwise.
double item(const Tensor& tensor);

// "[2, 3]", for messages.
std::string shape_text(const std::vector<std::uint64_t>& shape);

}  // namespace personascope
