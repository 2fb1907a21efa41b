// Values that never change, shared by whoever holds them: of a vector that was handed over, or where they lie
// (a mapped file).
#pragma once
#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

namespace personascope {

template <class T>
class Column {
 public:
  Column() = default;
  template <class Allocator>
  Column(std::vector<T, Allocator> values)  // NOLINT: a vector is a column
      : Column(std::make_shared<const std::vector<T, Allocator>>(std::move(values))) {}
  // `owner` keeps data [size] alive.
  Column(const T* data, std::size_t size, std::shared_ptr<const void> owner)
      : data_(data), size_(size), owner_(std::move(owner)) {}

  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  const T& operator[](std::size_t i) const { return data_[i]; }
  // The values [first, first + count), which are there.
  Column slice(std::size_t first, std::size_t count) const { return {data_ + first, count, owner_}; }
  const std::shared_ptr<const void>& owner() const { return owner_; }
  bool operator==(const Column& other) const {
    if (size_ != other.size_) return false;
    for (std::size_t i = 0; i < size_; ++i)
      if (!(data_[i] == other.data_[i])) return false;
    return true;
  }

 private:
  template <class Allocator>
  explicit Column(std::shared_ptr<const std::vector<T, Allocator>> values)
      : data_(values->data()), size_(values->size()), owner_(std::move(values)) {}

  const T* data_ = nullptr;
  std::size_t size_ = 0;
  std::shared_ptr<const void> owner_;
};

}  // namespace personascope
