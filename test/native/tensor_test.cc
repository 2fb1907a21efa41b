#include "native/core/tensor.h"

#include <cstring>

#include "native/core/error.h"
#include "native/core/half.h"
#include "test/native/check.h"

using namespace personascope;

namespace {

// A tensor of fp32 values 0, 1, 2, ... that lie contiguously, at an odd address.
Tensor counting(const std::vector<std::uint64_t>& shape) {
  Tensor tensor{"t", Dtype::f32, shape, contiguous_strides(shape), nullptr, nullptr};
  auto bytes = std::make_shared<std::vector<std::uint8_t>>(tensor.elements() * 4 + 1);
  for (std::uint64_t i = 0; i < tensor.elements(); ++i) {
    const auto value = static_cast<float>(i);
    std::memcpy(bytes->data() + 1 + 4 * i, &value, 4);
  }
  tensor.data = bytes->data() + 1;
  tensor.owner = bytes;
  return tensor;
}

std::vector<float> values(const Tensor& tensor, std::uint64_t first, std::uint64_t count) {
  std::vector<float> out(count);
  read_f32(tensor, first, count, out.data());
  return out;
}
std::vector<float> values(const Tensor& tensor) {
  return values(tensor, 0, tensor.elements());
}

}  // namespace

TEST(views_are_read_in_their_own_row_major_order) {
  const Tensor t = counting({2, 3, 5});
  const Tensor p = permuted(t, {1, 0, 2});
  CHECK(p.shape == (std::vector<std::uint64_t>{3, 2, 5}));
  const auto read = values(p);
  for (std::size_t i = 0; i < 3; ++i)
    for (std::size_t j = 0; j < 2; ++j)
      for (std::size_t k = 0; k < 5; ++k)
        CHECK_EQ(read[(i * 2 + j) * 5 + k], static_cast<float>((j * 3 + i) * 5 + k));
  // Any range of it is the same values.
  for (std::uint64_t first = 0; first < 30; ++first)
    for (std::uint64_t count = 0; first + count <= 30; ++count)
      CHECK(values(p, first, count) == std::vector<float>(read.begin() + static_cast<long>(first),
                                                          read.begin() + static_cast<long>(first + count)));
  CHECK(values(reshaped(t, {30})) == values(t));
}

TEST(a_transposed_matrix_is_read_in_tiles) {
  const std::uint64_t rows = 201, columns = 131;
  const Tensor t = transposed(counting({rows, columns}));
  CHECK(!is_contiguous(t));
  const auto read = values(t);
  bool equal = true;
  for (std::uint64_t i = 0; i < columns; ++i)
    for (std::uint64_t j = 0; j < rows; ++j)
      equal = equal && read[i * rows + j] == static_cast<float>(j * columns + i);
  CHECK(equal);
  // Whole rows from the middle, and a range that is no whole rows.
  CHECK(values(t, 7 * rows, 100 * rows) ==
        std::vector<float>(read.begin() + 7 * 201, read.begin() + 107 * 201));
  CHECK(values(t, 5, 1000) == std::vector<float>(read.begin() + 5, read.begin() + 1005));
}

TEST(negative_and_zero_strides_and_scalars) {
  Tensor t = counting({4});
  t.data += 12;
  t.strides = {-1};
  CHECK(values(t) == (std::vector<float>{3, 2, 1, 0}));
  t.strides = {0};
  CHECK(values(t) == (std::vector<float>{3, 3, 3, 3}));
  CHECK(values(counting({})) == std::vector<float>{0});
  CHECK(values(counting({3, 0})).empty());
}

TEST(sixteen_bit_and_double_values) {
  Tensor t = counting({2});
  const std::uint16_t halves[] = {0x3fc0, 0x3c00};
  t.data = reinterpret_cast<const std::uint8_t*>(halves);
  t.dtype = Dtype::bf16;
  CHECK_EQ(values(t)[0], 1.5f);
  t.dtype = Dtype::f16;
  CHECK_EQ(values(t)[1], 1.0f);
  const double doubles[] = {0.1, 1e300};
  t.data = reinterpret_cast<const std::uint8_t*>(doubles);
  t.dtype = Dtype::f64;
  CHECK_EQ(values(t, 0, 1)[0], 0.1f);
  t.dtype = Dtype::i32;
  CHECK_THROWS(values(t), ErrorCode::format);
}

TEST(norms_of_rows_and_single_values) {
  std::vector<float> norms(3);
  std::uint64_t done = 0;
  row_norms(transposed(counting({2, 3})), norms.data(), [&](std::uint64_t rows) { done = rows; });
  CHECK_EQ(done, 3u);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK_CLOSE(norms[i], std::sqrt(static_cast<double>(i * i + (i + 3) * (i + 3))), 1e-6);
  Tensor t = counting({1});
  const std::int64_t integer = -5;
  t.data = reinterpret_cast<const std::uint8_t*>(&integer);
  t.dtype = Dtype::i64;
  CHECK_EQ(item(t), -5.0);
  t.dtype = Dtype::i32;
  CHECK_EQ(item(t), -5.0);
  t.dtype = Dtype::u8;
  CHECK_EQ(item(t), 251.0);
  const std::uint16_t half = 0x3c00;
  t.data = reinterpret_cast<const std::uint8_t*>(&half);
  t.dtype = Dtype::f16;
  CHECK_EQ(item(t), 1.0);
  CHECK_THROWS(item(counting({2})), ErrorCode::format);
}

TEST(wrong_views_and_ranges_are_refused) {
  const Tensor t = counting({2, 3});
  CHECK_THROWS(values(t, 5, 2), ErrorCode::invalid_argument);
  CHECK_THROWS(values(t, 7, 0), ErrorCode::invalid_argument);
  CHECK_THROWS(permuted(t, {0, 0}), ErrorCode::invalid_argument);
  CHECK_THROWS(permuted(t, {0, 2}), ErrorCode::invalid_argument);
  CHECK_THROWS(permuted(t, {0}), ErrorCode::invalid_argument);
  CHECK_THROWS(reshaped(t, {4}), ErrorCode::invalid_argument);
  CHECK_THROWS(reshaped(transposed(t), {6}), ErrorCode::invalid_argument);
  CHECK_THROWS(reshaped(t, {1ull << 63, 6, 2}), ErrorCode::invalid_argument);
}
