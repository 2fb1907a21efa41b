#include "native/activations/rows.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "native/core/half.h"
#include "test/native/check.h"
#include "test/native/io/files.h"

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
  // Finite where it lies, but not in fp32.
  std::vector<double> f64;
  const Tensor wide = tensor_of(f64, Dtype::f64, [](double v) { return v; });
  const auto message = [&](const Tensor& of, std::uint64_t rows) -> std::string {
    try {
      read_rows(of, 0, rows, out.data());
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::non_finite);
      return error.what();
    }
    return "";
  };
  f64[5] = -1e39;
  CHECK(message(wide, 4).find("row 1, component 2 is -1e+39, beyond the range of F32") != std::string::npos);
  CHECK(message(transposed(wide), 3).find("row 2, component 1 is -1e+39, beyond") != std::string::npos);
  f64[5] = std::numeric_limits<double>::quiet_NaN();
  CHECK(message(wide, 4).find("component 2 is nan") != std::string::npos);
  Tensor whole = tensor;
  whole.dtype = Dtype::i32;
  CHECK_THROWS(read_rows(whole, 0, 1, out.data()), ErrorCode::format);
  whole.shape = {12};
  CHECK_THROWS(read_rows(whole, 0, 1, out.data()), ErrorCode::invalid_argument);
}

TEST(released_rows_of_a_mapped_file_are_read_again) {
  constexpr std::size_t kRows = 4096, kWidth = 1024;
  std::vector<float> values(kRows * kWidth);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i);
  const std::size_t bytes = values.size() * sizeof(float);
  const TemporaryFile saved(std::string(reinterpret_cast<const char*>(values.data()), bytes));
  const int file = open(saved.path.c_str(), O_RDONLY);
  CHECK_EQ(fsync(file), 0);  // what is not written yet cannot leave the memory
  void* memory = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file, 0);
  const Tensor tensor = {
      "m", Dtype::f32, {kRows, kWidth}, {kWidth, 1}, static_cast<const std::uint8_t*>(memory), {}};
  std::vector<float> out(values.size());
  for (const Release how : {Release::unmap, Release::evict}) {
    prefetch_rows(tensor, 0, kRows);
    read_rows(tensor, 0, kRows, out.data());
    CHECK(out == values);
    CHECK(rows_in_memory(tensor));
    release_rows(tensor, 3, 50, how);
    release_rows(tensor, 0, 0, how);
    read_rows(tensor, 0, kRows, out.data());
    CHECK(out == values);
    release_rows(tensor, 0, kRows, how);
    if (how == Release::unmap) CHECK(rows_in_memory(tensor));
  }
  // Not every system obeys, nor every file system; where it does, they are read from the disk again.
  std::printf("  evicted rows are %s\n", rows_in_memory(tensor) ? "still in memory" : "on the disk only");
  read_rows(tensor, 0, kRows, out.data());
  CHECK(out == values);
  munmap(memory, bytes);
  close(file);
}

TEST(rows_that_are_not_contiguous_stay_where_they_are) {
  std::vector<float> f32;
  const Tensor turned =
      transposed(tensor_of(f32, Dtype::f32, [](double v) { return static_cast<float>(v); }));
  CHECK(!rows_in_memory(turned));
  release_rows(turned, 0, turned.shape[0], Release::evict);
  CHECK_THROWS(release_rows(turned, 0, turned.shape[0] + 1, Release::unmap), ErrorCode::invalid_argument);
}
