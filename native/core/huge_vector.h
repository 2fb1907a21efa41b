// A vector whose large blocks lie on huge pages where the system grants them: memory that is filled once and
// given back costs a fault a page, which on a virtual machine is more than filling it.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
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
    if (count > (std::size_t{1} << 46) / sizeof(T)) throw std::bad_alloc();
    if (!is_large(count)) return static_cast<T*>(::operator new(count * sizeof(T)));
    // From the system and back to it, so that nothing of it stays behind in the heap of a thread.
    const std::size_t bytes = count * sizeof(T);
    void* const taken =
        mmap(nullptr, bytes + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (taken == MAP_FAILED) throw std::bad_alloc();
    auto* const begin = static_cast<char*>(taken);
    const std::size_t skipped = (kHuge - reinterpret_cast<std::uintptr_t>(begin) % kHuge) % kHuge;
    char* const block = begin + skipped;
    char* const end = block + in_pages(bytes);
    if (skipped > 0) munmap(begin, skipped);
    if (end < begin + in_pages(bytes + kHuge)) munmap(end, begin + in_pages(bytes + kHuge) - end);
#ifdef MADV_HUGEPAGE
    // The rest of the last one stays on small pages, or it would be taken whole.
    madvise(block, bytes / kHuge * kHuge, MADV_HUGEPAGE);
#endif
    return reinterpret_cast<T*>(block);
  }
  void deallocate(T* block, std::size_t count) {
    if (is_large(count))
      munmap(block, in_pages(count * sizeof(T)));
    else
      ::operator delete(block);
  }
  bool operator==(const HugePages&) const { return true; }

 private:
  static constexpr std::size_t kHuge = std::size_t{1} << 21, kPage = 4096;
  static bool is_large(std::size_t count) { return count * sizeof(T) >= 2 * kHuge; }
  static std::size_t in_pages(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }
};

template <class T>
using HugeVector = std::vector<T, HugePages<T>>;

}  // namespace personascope
