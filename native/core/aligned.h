// A fixed block of fp32 (or other plain) values aligned to a cache line, zeroed when made.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <type_traits>
#include <utility>

#include "native/core/error.h"

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
    // Large blocks lie on huge pages where the system grants them: matrices are read row by row, a page a
    // row.
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    const std::size_t line = size * sizeof(T) >= 4 * kHuge ? kHuge : 64;
    const std::size_t bytes = (size * sizeof(T) + line - 1) / line * line;
    void* block = std::aligned_alloc(line, bytes);
#ifdef MADV_HUGEPAGE
    if (block != nullptr && line == kHuge) madvise(block, bytes, MADV_HUGEPAGE);
#endif
    require(block != nullptr, ErrorCode::out_of_memory,
            "could not allocate " + std::to_string(bytes) + " bytes");
    std::memset(block, 0, bytes);
    data_.reset(static_cast<T*>(block));
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
  struct Free {
    void operator()(T* block) const { std::free(block); }
  };
  std::unique_ptr<T, Free> data_;
  std::size_t size_ = 0;
};

}  // namespace personascope
