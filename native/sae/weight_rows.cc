#include "native/sae/weight_rows.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "native/core/check_finite.h"
#include "native/core/lost_pages.h"
#include "native/core/thread_pool.h"

namespace personascope {

namespace {

// Elements of Size bytes; in tiles, so that neither side is walked a cache line an element.
template <std::size_t Size>
void copy_rows(const Tensor& source, std::size_t begin, std::size_t end, std::uint8_t* out,
               std::size_t stride) {
  constexpr std::size_t kTile = 64;
  const std::size_t columns = source.shape[1];
  const std::int64_t down = source.strides[0] * static_cast<std::int64_t>(Size),
                     right = source.strides[1] * static_cast<std::int64_t>(Size);
  for (std::size_t r0 = begin; r0 < end; r0 += kTile)
    for (std::size_t c0 = 0; c0 < columns; c0 += kTile)
      for (std::size_t c = c0; c < std::min(columns, c0 + kTile); ++c)
        for (std::size_t r = r0; r < std::min(end, r0 + kTile); ++r)
          std::memcpy(
              out + r * stride + c * Size,
              source.data + static_cast<std::int64_t>(r) * down + static_cast<std::int64_t>(c) * right, Size);
}

}  // namespace

WeightRows::WeightRows(Tensor source) : source_(std::move(source)) {
  const std::size_t size = dtype_size(source_.dtype);
  const bool in_place = source_.owner && source_.dtype != Dtype::f64 && source_.strides[1] == 1 &&
                        source_.strides[0] >= static_cast<std::int64_t>(columns()) &&
                        reinterpret_cast<std::uintptr_t>(source_.data) % size == 0;
  if (in_place) {
    view_ = {source_.data, source_.dtype, static_cast<std::size_t>(source_.strides[0]) * size, rows(),
             columns()};
    return;
  }
  if (source_.owner) return;
  copy_ = AlignedBuffer<std::uint8_t>(rows() * copy_stride());
  view_ = copied(copy_.data(), true, {});
  for (std::size_t row = 0; row < rows(); ++row)
    if (source_.dtype == Dtype::f32)
      check_finite(source_.name.c_str(), reinterpret_cast<const float*>(view_.row(row)), 1, columns(),
                   columns(), row);
  // From here on it is like any other matrix in memory.
  source_.data = view_.data;
  source_.dtype = view_.dtype;
  source_.strides = {static_cast<std::int64_t>(view_.stride / dtype_size(view_.dtype)), 1};
}

const RowView& WeightRows::view(const std::function<void()>& check) const {
  const std::lock_guard lock(mutex_);
  if (!view_.data) {
    AlignedBuffer<std::uint8_t> copy(rows() * copy_stride());
    view_ = copied(copy.data(), true, check);
    copy_ = std::move(copy);
  }
  return view_;
}

bool WeightRows::must_copy() const {
  const std::lock_guard lock(mutex_);
  return !view_.data;
}

void WeightRows::use(std::shared_ptr<void> owner, std::uint8_t* room, bool filled,
                     const std::function<void()>& check) const {
  const std::lock_guard lock(mutex_);
  require(!view_.data, ErrorCode::internal, source_.name + ": its rows are in use");
  view_ = copied(room, !filled, check);
  room_ = std::move(owner);
}

std::size_t WeightRows::copy_stride() const {
  const std::size_t size = source_.dtype == Dtype::f64 ? 4 : dtype_size(source_.dtype);
  return (columns() * size + 63) / 64 * 64;
}

RowView WeightRows::copied(std::uint8_t* to, bool write, const std::function<void()>& check) const {
  RowView view;
  view.data = to;
  view.dtype = source_.dtype == Dtype::f64 ? Dtype::f32 : source_.dtype;
  view.rows = rows();
  view.width = columns();
  view.stride = copy_stride();
  const std::size_t size = dtype_size(view.dtype);
  if (!write) return view;
  const MappedReads reads;
  constexpr std::size_t kRows = 256;
  const std::size_t blocks = (rows() + kRows - 1) / kRows;
  parallel_for(blocks, 1, [&](std::size_t first, std::size_t last) {
    for (std::size_t block = first; block < last; ++block) {
      if (check) check();
      const std::size_t begin = block * kRows, end = std::min(rows(), begin + kRows);
      if (source_.dtype == Dtype::f64)
        for (std::size_t row = begin; row < end; ++row)
          read_f32(source_, row * columns(), columns(), reinterpret_cast<float*>(to + row * view.stride));
      else if (size == 4)
        copy_rows<4>(source_, begin, end, to, view.stride);
      else
        copy_rows<2>(source_, begin, end, to, view.stride);
    }
  });
  reads.check();
  return view;
}

void WeightRows::read(std::size_t row, float* out) const {
  if (row >= rows())
    fail(ErrorCode::invalid_argument,
         source_.name + ": row " + std::to_string(row) + " of " + std::to_string(rows()));
  read_f32(source_, row * columns(), columns(), out);
  check_finite(source_.name.c_str(), out, 1, columns(), columns(), row, "latent");
}

}  // namespace personascope
