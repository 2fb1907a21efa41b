// A vector whose large blocks lie on huge pages where the system grants them: memory that is filled once and
// given back costs a fault a page, which on a virtual machine is more than filling it.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

namespace personascope {

template <class T>
struct HugePages {
  using value_type = T;
  HugePages() = default;
  template <class Other>
  HugePages(const HugePages<Other>&) {}  // NOLINT: as allocators are

  T* allocate(std::size_t count) {
    constexpr std::size_t kHuge = std::size_t{1} << 21;
    if (count > (std::size_t{1} << 46) / sizeof(T)) throw std::bad_alloc();
    const std::size_t line = count * sizeof(T) >= 2 * kHuge ? kHuge : 64;
    const std::size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
    void* block = nullptr;
    if (posix_memalign(&block, line, bytes) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    // The rest of the last one stays on small pages, or it would be taken whole.
    if (line == kHuge) madvise(block, bytes / kHuge * kHuge, MADV_HUGEPAGE);
#endif
    return static_cast<T*>(block);
  }
  void deallocate(T* block, std::size_t) { std::free(block); }
  bool operator==(const HugePages&) const { return true; }
};

template <class T>
using HugeVector = std::vector<T, HugePages<T>>;

}  // namespace personascope
