// Values that never change, shared by whoever holds them: of a vector that was handed over, or where they lie
// (a mapped file).
#pragma once
#include <algorithm>
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "native/core/pages.h"

namespace personascope {

template <class T>
class Column {
 public:
  Column() = default;
  template <class Allocator>
  Column(std::vector<T, Allocator> values)  // NOLINT: a vector is a column
      : Column(of(std::make_shared<const std::vector<T, Allocator>>(std::move(values)))) {}
  // `owner`, a mapped file, keeps data [size] alive.
  Column(const T* data, std::size_t size, std::shared_ptr<const void> owner)
      : data_(data), size_(size), mapped_(data), mapped_end_(data + size), owner_(std::move(owner)) {}

  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  // Those of a container that owns them.
  template <class Values>
  static Column of(std::shared_ptr<const Values> values) {
    Column column;
    column.data_ = values->data();
    column.size_ = values->size();
    column.owner_ = std::move(values);
    return column;
  }

  // The values [first, first + count), which are there.
  Column slice(std::size_t first, std::size_t count) const {
    Column part = *this;
    part.data_ += first;
    part.size_ = count;
    return part;
  }
  // The values will not be wanted for a while: those of a file need not stay in memory. Neither what the
  // system read around them, which others may have to read again.
  void forget() const {
    if (!mapped_ || size_ == 0) return;
    constexpr auto kAround = static_cast<std::ptrdiff_t>(kHugePage / sizeof(T));
    const T* const first = data_ - std::min(kAround, data_ - mapped_);
    const T* const last = data_ + size_ + std::min(kAround, mapped_end_ - (data_ + size_));
    forget_pages(first, static_cast<std::size_t>(last - first) * sizeof(T));
  }
  bool operator==(const Column& other) const {
    return std::equal(begin(), end(), other.begin(), other.end());
  }

 private:
  const T* data_ = nullptr;
  std::size_t size_ = 0;
  const T *mapped_ = nullptr, *mapped_end_ = nullptr;  // of the whole column, where it lies in a file
  std::shared_ptr<const void> owner_;
};

// Columns one after the other, read as one.
template <class T>
class Columns {
 public:
  using value_type = T;
  Columns() = default;
  template <class Values>
  Columns(Values values) {  // NOLINT: one column, or a vector, is a case of it
    append(std::move(values));
  }

  void append(Column<T> column) {
    size_ += column.size();
    if (!column.empty()) columns_.push_back(std::move(column));
  }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  // The values [first, first + count), which are there; copied only where they lie in several columns.
  Column<T> slice(std::size_t first, std::size_t count) const {
    std::size_t c = 0;
    for (; c < columns_.size() && first >= columns_[c].size(); ++c) first -= columns_[c].size();
    if (count == 0) return {};
    if (count <= columns_[c].size() - first) return columns_[c].slice(first, count);
    std::vector<T> copy;
    copy.reserve(count);
    for (; copy.size() < count; ++c, first = 0) {
      const std::size_t own = std::min(count - copy.size(), columns_[c].size() - first);
      copy.insert(copy.end(), columns_[c].begin() + first, columns_[c].begin() + first + own);
    }
    return copy;
  }
  bool operator==(const Columns& other) const {
    return size_ == other.size_ && slice(0, size_) == other.slice(0, size_);
  }

 private:
  std::vector<Column<T>> columns_;
  std::size_t size_ = 0;
};

}  // namespace personascope
