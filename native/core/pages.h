// Large blocks of memory, straight from the system and back to it at once. Freed to malloc, blocks of some
// megabytes stay behind in the heap of whichever thread took them.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstdint>

namespace personascope {

constexpr std::size_t kPage = 4096, kHugePage = std::size_t{1} << 21;

inline std::size_t in_pages(std::size_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

// Zeroed, untouched, beginning on a huge page; on huge pages where the system grants them, which saves most
// of the faults: on a virtual machine those cost more than filling the memory. Null if there is no memory.
inline void* take_pages(std::size_t bytes) {
  const std::size_t room = in_pages(bytes + kHugePage);
  void* const taken = mmap(nullptr, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (taken == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<char*>(taken);
  const std::size_t skipped = (kHugePage - reinterpret_cast<std::uintptr_t>(begin) % kHugePage) % kHugePage;
  char* const block = begin + skipped;
  char* const end = block + in_pages(bytes);
  if (skipped > 0) munmap(begin, skipped);
  if (end < begin + room) munmap(end, static_cast<std::size_t>(begin + room - end));
#ifdef MADV_HUGEPAGE
  // The rest of the last one stays on small pages, or it would be taken whole.
  if (bytes >= kHugePage) madvise(block, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return block;
}

// `bytes` as it was taken with; or its last pages.
inline void give_back_pages(void* block, std::size_t bytes) {
  munmap(block, in_pages(bytes));
}

// A block of more bytes that begins with the pages of the old one (null: there is none), which is gone then;
// null, and the old one stays, if there is no memory. Pages are moved, not copied.
inline void* grow_pages(void* block, std::size_t old_bytes, std::size_t bytes) {
  void* const grown = take_pages(bytes);
  if (!grown || !block) return grown;
  const std::size_t old = in_pages(old_bytes);
  if (mremap(block, old, old, MREMAP_MAYMOVE | MREMAP_FIXED, grown) != MAP_FAILED) return grown;
  give_back_pages(grown, bytes);
  return nullptr;
}

// Advice to the system on the pages that hold `data`.
inline void advise_pages(const void* data, std::size_t bytes, int advice) {
  const auto first = reinterpret_cast<std::uintptr_t>(data) / kPage * kPage;
  const auto last = (reinterpret_cast<std::uintptr_t>(data) + bytes + kPage - 1) / kPage * kPage;
  // A hint: where the system refuses it nothing is lost.
  if (bytes > 0) (void)madvise(reinterpret_cast<void*>(first), last - first, advice);
}

// The pages of a mapped file that hold `data` will be wanted soon: they are fetched.
inline void want_pages(const void* data, std::size_t bytes) {
  advise_pages(data, bytes, MADV_WILLNEED);
}

// They leave this process, and are read again where they are touched. Of a file only: other memory would lose
// its content.
inline void forget_pages(const void* data, std::size_t bytes) {
  advise_pages(data, bytes, MADV_DONTNEED);
}

// The pages of a mapped file that hold `data` and lie in this process leave the memory of the system too, so
// that reading through a file that is not in memory leaves it so, and others what they keep there. What is
// read next takes the same memory again: on a virtual machine fresh memory costs more than reading does.
inline void evict_pages(const void* data, std::size_t bytes) {
#ifdef MADV_PAGEOUT
  advise_pages(data, bytes, MADV_PAGEOUT);
#endif
}

// Whether most of the pages of a mapped file that hold `data` are in the system's memory, by a sample. True
// where the system does not tell: of files that only others may write.
inline bool mostly_in_memory(const void* data, std::size_t bytes) {
  constexpr std::size_t kSample = 256;
  const auto first = reinterpret_cast<std::uintptr_t>(data) / kPage;
  const std::size_t pages = (reinterpret_cast<std::uintptr_t>(data) + bytes + kPage - 1) / kPage - first;
  const std::size_t count = pages < kSample ? pages : kSample;
  std::size_t there = 0;
  for (std::size_t i = 0; i < count; ++i) {
    unsigned char state = 1;
    if (mincore(reinterpret_cast<void*>((first + i * pages / count) * kPage), kPage, &state) != 0)
      return true;
    there += state & 1;
  }
  return 2 * there >= count;
}

}  // namespace personascope
