// A vector whose larger blocks are pages of their own (pages.h).
#pragma once
#include <cstddef>
#include <new>
#include <vector>

#include "native/core/pages.h"

namespace personascope {

template <class T>
struct Pages {
  using value_type = T;
  Pages() = default;
  template <class Other>
  Pages(const Pages<Other>&) {}  // NOLINT: as allocators are

  T* allocate(std::size_t count) {
    if (count > (std::size_t{1} << 46) / sizeof(T)) throw std::bad_alloc();
    if (!is_large(count)) return static_cast<T*>(::operator new(count * sizeof(T)));
    void* const block = take_pages(count * sizeof(T));
    if (!block) throw std::bad_alloc();
    return static_cast<T*>(block);
  }
  void deallocate(T* block, std::size_t count) {
    if (is_large(count))
      give_back_pages(block, count * sizeof(T));
    else
      ::operator delete(block);
  }
  bool operator==(const Pages&) const { return true; }

 private:
  static bool is_large(std::size_t count) { return count * sizeof(T) >= std::size_t{1} << 18; }
};

template <class T>
using PagedVector = std::vector<T, Pages<T>>;

}  // namespace personascope
