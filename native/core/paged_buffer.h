// Values in pages of their own (pages.h) that come to more and fewer again and again. Growing moves the pages
// there are instead of copying them: only those that were never touched are taken fresh from the system.
#pragma once
#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "native/core/pages.h"

namespace personascope {

template <class T>
class PagedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  PagedBuffer() = default;
  PagedBuffer(const PagedBuffer& other) { append(other.data_, other.size_); }
  PagedBuffer(PagedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        room_(std::exchange(other.room_, 0)) {}
  PagedBuffer& operator=(PagedBuffer other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(room_, other.room_);
    return *this;
  }
  ~PagedBuffer() {
    if (data_) give_back_pages(data_, bytes_of(room_));
  }

  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  const T& back() const { return data_[size_ - 1]; }

  void clear() { size_ = 0; }
  // Room for so many values.
  void reserve(std::size_t count) {
    if (count <= room_) return;
    if (count > (std::size_t{1} << 46) / sizeof(T)) throw std::bad_alloc();
    void* const data = grow_pages(data_, bytes_of(room_), bytes_of(count));
    if (!data) throw std::bad_alloc();
    data_ = static_cast<T*>(data);
    room_ = bytes_of(count) / sizeof(T);
  }
  void push_back(T value) {
    if (size_ == room_) reserve(room_ + room_ / 2 + 1);
    data_[size_++] = value;
  }
  void append(const T* values, std::size_t count) {
    if (count == 0) return;
    reserve(size_ + count);
    std::memcpy(data_ + size_, values, count * sizeof(T));
    size_ += count;
  }
  // Gives back the pages behind the last value.
  void fit() {
    const std::size_t used = bytes_of(size_), all = bytes_of(room_);
    if (used == all) return;
    give_back_pages(reinterpret_cast<char*>(data_) + used, all - used);
    room_ = used / sizeof(T);
    if (used == 0) data_ = nullptr;
  }

 private:
  static std::size_t bytes_of(std::size_t count) { return in_pages(count * sizeof(T)); }

  T* data_ = nullptr;
  std::size_t size_ = 0, room_ = 0;  // values; room in whole pages
};

}  // namespace personascope
