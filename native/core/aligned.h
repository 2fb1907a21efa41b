// A fixed block of fp32 (or other plain) values aligned to a cache line, zeroed when made.
#pragma once
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include "native/core/error.h"
#include "native/core/pages.h"

namespace personascope {

template <class T>
class AlignedBuffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(std::size_t size) : size_(size) {
    if (size == 0) return;
    require(size <= (std::size_t{1} << 46) / sizeof(T), ErrorCode::out_of_memory,
            "a block of " + std::to_string(size) + " values is too large");
    const std::size_t bytes = size * sizeof(T);
    // Large blocks lie on huge pages where they can: matrices are read row by row, a page a row.
    void* const block = is_large(size) ? take_pages(bytes) : std::aligned_alloc(64, (bytes + 63) / 64 * 64);
    require(block != nullptr, ErrorCode::out_of_memory,
            "could not allocate " + std::to_string(bytes) + " bytes");
    if (!is_large(size)) std::memset(block, 0, bytes);
    data_ = {static_cast<T*>(block), Free{size}};
  }
  AlignedBuffer(const AlignedBuffer& other) : AlignedBuffer(other.size_) {
    if (size_ > 0) std::memcpy(static_cast<void*>(data()), other.data(), size_ * sizeof(T));
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::move(other.data_)), size_(std::exchange(other.size_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer other) noexcept {
    data_ = std::move(other.data_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }
  T* data() { return data_.get(); }
  const T* data() const { return data_.get(); }
  std::size_t size() const { return size_; }
  T& operator[](std::size_t i) { return data_.get()[i]; }
  const T& operator[](std::size_t i) const { return data_.get()[i]; }
  T* begin() { return data(); }
  T* end() { return data() + size_; }

 private:
  static bool is_large(std::size_t size) { return size * sizeof(T) >= std::size_t{1} << 20; }
  struct Free {
    std::size_t size = 0;
    void operator()(T* block) const {
      if (is_large(size))
        give_back_pages(block, size * sizeof(T));
      else
        std::free(block);
    }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace personascope
