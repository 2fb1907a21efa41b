#include "native/activations/rows.h"

#include <sys/mman.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "native/core/half.h"
#include "test/native/check.h"

using namespace personascope;

namespace {

// Rows of three values whose exact fp32 values are known.
template <class Stored, class Make>
Tensor tensor_of(std::vector<Stored>& memory, Dtype dtype, const Make& make) {
  for (std::size_t i = 0; i < 12; ++i) memory.push_back(make(static_cast<double>(i) / 4 - 1));
  return {"f: tensor 'activations'",
          dtype,
          {4, 3},
          {3, 1},
          reinterpret_cast<const std::uint8_t*>(memory.data()),
          {}};
}

}  // namespace

TEST(every_dtype_exactly) {
  std::vector<float> f32;
  std::vector<std::uint16_t> bf16, f16;
  std::vector<double> f64;
  const auto half = [](double v) -> std::uint16_t {
    for (std::uint32_t bits = 0; bits < 65536; ++bits)
      if (f16_to_f32(static_cast<std::uint16_t>(bits)) == v) return static_cast<std::uint16_t>(bits);
    return 0xffff;
  };
  const std::vector<Tensor> tensors = {
      tensor_of(f32, Dtype::f32, [](double v) { return static_cast<float>(v); }),
      tensor_of(bf16, Dtype::bf16, [](double v) { return f32_to_bf16(static_cast<float>(v)); }),
      tensor_of(f16, Dtype::f16, half), tensor_of(f64, Dtype::f64, [](double v) { return v; })};
  for (const Tensor& tensor : tensors) {
    std::vector<float> out(6, -9);
    read_rows(tensor, 1, 2, out.data());
    for (std::size_t i = 0; i < 6; ++i) CHECK_EQ(out[i], static_cast<float>(i + 3) / 4 - 1);
    read_rows(tensor, 4, 0, out.data());
    CHECK_THROWS(read_rows(tensor, 3, 2, out.data()), ErrorCode::invalid_argument);
    CHECK_THROWS(read_rows(tensor, 5, 0, out.data()), ErrorCode::invalid_argument);
  }
  // Column-major, as numpy may save it.
  Tensor columns = tensors[0];
  columns.strides = {1, 4};
  std::vector<float> out(3);
  read_rows(columns, 2, 1, out.data());
  for (std::size_t j = 0; j < 3; ++j) CHECK_EQ(out[j], f32[2 + 4 * j]);
}

TEST(what_is_not_a_number_is_located) {
  std::vector<float> f32;
  const Tensor tensor = tensor_of(f32, Dtype::f32, [](double v) { return static_cast<float>(v); });
  f32[7] = std::numeric_limits<float>::infinity();
  std::vector<float> out(12);
  read_rows(tensor, 0, 2, out.data());
  try {
    read_rows(tensor, 1, 3, out.data());
    CHECK(false);
  } catch (const Error& error) {
    CHECK(error.code() == ErrorCode::non_finite);
    CHECK(std::strstr(error.what(), "f: tensor 'activations': row 2, component 1 is inf") != nullptr);
  }
  Tensor whole = tensor;
  whole.dtype = Dtype::i32;
  CHECK_THROWS(read_rows(whole, 0, 1, out.data()), ErrorCode::format);
  whole.shape = {12};
  CHECK_THROWS(read_rows(whole, 0, 1, out.data()), ErrorCode::invalid_argument);
}

TEST(released_rows_of_a_mapped_file_are_read_again) {
  std::FILE* file = std::tmpfile();
  std::vector<float> values(1 << 16);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  CHECK_EQ(std::fwrite(values.data(), sizeof(float), values.size(), file), values.size());
  std::fflush(file);
  void* memory = mmap(nullptr, values.size() * sizeof(float), PROT_READ, MAP_PRIVATE, fileno(file), 0);
  const Tensor tensor = {"m", Dtype::f32, {64, 1024}, {1024, 1}, static_cast<const std::uint8_t*>(memory),
                         {}};
  std::vector<float> out(values.size());
  for (int pass = 0; pass < 2; ++pass) {
    prefetch_rows(tensor, 0, 64);
    read_rows(tensor, 0, 64, out.data());
    CHECK(out == values);
    release_rows(tensor, 3, 50);
    release_rows(tensor, 0, 0);
    std::vector<unsigned char> resident(values.size() * sizeof(float) / 4096);
    CHECK_EQ(mincore(memory, values.size() * sizeof(float), resident.data()), 0);
    read_rows(tensor, 0, 64, out.data());
    CHECK(out == values);
  }
  munmap(memory, values.size() * sizeof(float));
  std::fclose(file);
}
