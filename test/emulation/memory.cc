#include "test/emulation/memory.h"

#include <dlfcn.h>
#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

namespace emulation {

__thread Actor* actor = nullptr;

namespace {

constexpr std::size_t kArena = std::size_t{16} << 30, kPage = 4096;
constexpr std::size_t kWord = 4;

// The last access of a kind to a word.
struct Mark {
  std::uint32_t launch;
  std::uint32_t block;
  std::uint32_t phase;
  std::uint32_t warp_phase : 16;
  std::uint32_t thread : 10;
  std::uint32_t bytes : 4;  // of the word
  std::uint32_t atomic : 1;
  std::uint32_t several : 1;  // reads: by more than one thread
};
struct Marks {
  Mark write, read;
  std::uint32_t warps;   // of several readers: the one warp of them, or kMany
  std::uint32_t blocks;  // launch in which several blocks read it
};
static_assert(sizeof(Mark) == 16);
constexpr std::uint32_t kMany = ~0u;

// Memory with what is known of it. state: of each word, which bytes may be accessed (4 bits) and which of
// them were written (4 bits).
struct Region {
  const char* begin = nullptr;
  std::size_t bytes = 0;
  std::uint8_t* state = nullptr;
  Marks* marks = nullptr;
  bool holds(const void* at) const {
    return static_cast<std::size_t>(static_cast<const char*>(at) - begin) < bytes;
  }
};

void* reserve(std::size_t bytes) {
  void* memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    std::perror("emulation: address space");
    std::abort();
  }
  return memory;
}
Region region_of(const char* begin, std::size_t bytes) {
  return {begin, bytes, static_cast<std::uint8_t*>(reserve(bytes / kWord + 1)),
          static_cast<Marks*>(reserve((bytes / kWord + 1) * sizeof(Marks)))};
}

Region& arena() {
  static Region region = region_of(static_cast<char*>(reserve(kArena)), kArena);
  return region;
}

// Sets or clears bits of the state of every byte.
void set_state(Region& region, const char* at, std::size_t bytes, unsigned set, unsigned clear) {
  std::size_t begin = static_cast<std::size_t>(at - region.begin);
  const std::size_t end = begin + bytes;
  while (begin < end) {
    const std::size_t word = begin / kWord;
    if (begin % kWord == 0 && end - begin >= kWord) {
      const std::size_t words = (end - begin) / kWord;
      for (std::size_t i = 0; i < words; ++i)
        region.state[word + i] =
            static_cast<std::uint8_t>((region.state[word + i] & ~(clear * 15)) | set * 15);
      begin += words * kWord;
      continue;
    }
    const unsigned bit = 1u << begin % kWord;
    region.state[word] = static_cast<std::uint8_t>((region.state[word] & ~(clear * bit)) | set * bit);
    ++begin;
  }
}
constexpr unsigned kOpen = 1, kWritten = 16;

std::map<const char*, Allocation>& allocations() {
  static std::map<const char*, Allocation> all;
  return all;
}

const char* s_shared = nullptr;  // shared memory, a part of the arena
std::size_t s_shared_bytes = 0;

std::string hex(const void* at) {
  char text[32];
  std::snprintf(text, sizeof text, "%p", at);
  return text;
}

std::string place(const void* at) {
  if (static_cast<std::size_t>(static_cast<const char*>(at) - s_shared) < s_shared_bytes)
    return "byte " + std::to_string(static_cast<const char*>(at) - s_shared) + " of shared memory";
  if (const Allocation* found = allocation_of(at))
    return "byte " + std::to_string(static_cast<const char*>(at) - found->begin) + " of an allocation of " +
           std::to_string(found->bytes);
  // The one before it, for a run past the end.
  auto next = allocations().upper_bound(static_cast<const char*>(at));
  if (arena().holds(at) && next != allocations().begin()) {
    const Allocation& before = std::prev(next)->second;
    return std::to_string(static_cast<const char*>(at) - before.begin -
                          static_cast<std::ptrdiff_t>(before.bytes)) +
           " bytes behind an allocation of " + std::to_string(before.bytes);
  }
  return hex(at);
}

const char* name_of(Access kind) {
  return kind == Access::write ? "writes" : kind == Access::atomic ? "adds to" : "reads";
}

// Whether the marked access and this one have no order.
bool unordered(const Mark& mark, const Actor& now, bool shared) {
  if (mark.launch != now.launch) return false;
  if (mark.block != now.block) return !shared;
  if (mark.thread == now.thread && !mark.several) return false;
  if (mark.phase != now.phase) return false;
  if (mark.thread / 32 == now.thread / 32 && !mark.several)
    return mark.warp_phase == (*now.warp_phase & 0xffff);
  return true;
}

[[noreturn]] void race(const void* at, const Mark& mark, const char* before, Access kind, const Actor& now) {
  defect("a race: thread " + std::to_string(now.thread) + " of block " + std::to_string(now.block) + " " +
         name_of(kind) + " what thread " + std::to_string(mark.thread) + (mark.several ? " and others" : "") +
         " of block " + std::to_string(mark.block) + " " + before +
         " without a barrier between: " + place(at));
}

void look_for_races(const void* at, Marks& marks, unsigned bytes, Access kind, bool shared,
                    const Actor& now) {
  const bool writes = kind == Access::write || kind == Access::atomic, atomic = kind == Access::atomic;
  Mark &write = marks.write, &read = marks.read;
  if ((write.bytes & bytes) && !(atomic && write.atomic) && unordered(write, now, shared))
    race(at, write, write.atomic ? "adds to" : "writes", kind, now);
  if (kind == Access::constant && write.launch == now.launch && (write.bytes & bytes))
    defect("the constant cache is asked for what this launch writes: " + place(at));
  if (writes) {
    if (read.bytes & bytes) {
      if (!shared && marks.blocks == now.launch && read.launch == now.launch)
        race(at, read, "reads", kind, now);
      bool bad = unordered(read, now, shared);
      // Several readers of the warp that writes now.
      if (bad && read.several && read.block == now.block && marks.warps == now.thread / 32)
        bad = read.warp_phase == (*now.warp_phase & 0xffff);
      if (bad) race(at, read, "reads", kind, now);
    }
    const unsigned merged = write.launch == now.launch && write.block == now.block &&
                                    write.thread == now.thread && write.phase == now.phase
                                ? write.bytes | bytes
                                : bytes;
    write = {now.launch,        now.block,   now.phase, static_cast<std::uint32_t>(*now.warp_phase & 0xffff),
             now.thread & 1023, merged & 15, atomic,    0};
    return;
  }
  const bool same_phase = read.launch == now.launch && read.block == now.block && read.phase == now.phase;
  if (read.launch == now.launch && read.block != now.block) marks.blocks = now.launch;
  const bool several = same_phase && (read.several || read.thread != now.thread);
  if (several)
    marks.warps =
        (read.several ? marks.warps : read.thread / 32) == now.thread / 32 ? now.thread / 32 : kMany;
  read = {now.launch,
          now.block,
          now.phase,
          static_cast<std::uint32_t>(*now.warp_phase & 0xffff),
          now.thread & 1023,
          (same_phase ? read.bytes | bytes : bytes) & 15,
          0,
          several};
}

void look(Region& region, const void* at, std::size_t bytes, Access kind, bool shared, const Actor& now) {
  std::size_t begin = static_cast<std::size_t>(static_cast<const char*>(at) - region.begin);
  const std::size_t end = begin + bytes;
  while (begin < end) {
    const std::size_t word = begin / kWord, offset = begin % kWord,
                      step = std::min(kWord - offset, end - begin);
    const unsigned mask = ((1u << step) - 1) << offset;
    std::uint8_t& state = region.state[word];
    const void* here = region.begin + begin;
    if ((state & mask) != mask)
      defect(std::string("out of bounds: a thread ") + name_of(kind) + " " + std::to_string(bytes) +
             " bytes, " + place(here));
    if (kind != Access::write && (state >> 4 & mask) != mask)
      defect(std::string("a thread ") + name_of(kind) + " what nobody wrote: " + place(here));
    if (kind == Access::write) state = static_cast<std::uint8_t>(state | mask << 4);
    look_for_races(here, region.marks[word], mask, kind, shared, now);
    begin += step;
  }
}

struct Image {
  const char *begin, *end;
};
// Constants of the library that holds the kernels.
const Image& image() {
  static const Image found = [] {
    Image range = {nullptr, nullptr};
    dl_iterate_phdr(
        [](dl_phdr_info* info, std::size_t, void* out) {
          Image of = {nullptr, nullptr};
          for (int i = 0; i < info->dlpi_phnum; ++i) {
            const auto& header = info->dlpi_phdr[i];
            if (header.p_type != PT_LOAD) continue;
            const char* begin = reinterpret_cast<const char*>(info->dlpi_addr + header.p_vaddr);
            if (!of.begin || begin < of.begin) of.begin = begin;
            of.end = std::max(of.end, begin + header.p_memsz);
          }
          const char* own = reinterpret_cast<const char*>(&image);
          if (own < of.begin || own >= of.end) return 0;
          *static_cast<Image*>(out) = of;
          return 1;
        },
        &range);
    return range;
  }();
  return found;
}

const char* s_arguments = nullptr;
std::size_t s_argument_bytes = 0;
char* s_next = nullptr;  // where the next allocation is looked for

}  // namespace

void access(const void* at, std::size_t bytes, Access kind) {
  if (!actor) {
    if (arena().holds(at)) {
      std::fprintf(stderr, "emulation: the host touches device memory, %s\n", place(at).c_str());
      std::abort();
    }
    return;
  }
  const Actor& now = *actor;
  const char* byte = static_cast<const char*>(at);
  if (byte >= now.stack_low && byte < now.stack_high) return;
  const Outside outside;
  if ((bytes & (bytes - 1)) == 0 && bytes <= 16 && (reinterpret_cast<std::uintptr_t>(at) & (bytes - 1)) != 0)
    defect("misaligned: a thread " + std::string(name_of(kind)) + " " + std::to_string(bytes) + " bytes at " +
           hex(at));
  if (arena().holds(at)) {
    look(arena(), at, bytes, kind, static_cast<std::size_t>(byte - s_shared) < s_shared_bytes, now);
    return;
  }
  const bool reads = kind == Access::read || kind == Access::constant;
  if (reads && static_cast<std::size_t>(byte - s_arguments) < s_argument_bytes) return;
  if (reads && byte >= image().begin && byte < image().end) return;
  defect("a thread " + std::string(name_of(kind)) + " memory that is not the device's: " + hex(at));
}

void copy_unseen(void* to, const void* from, std::size_t bytes) {
  std::memcpy(to, from, bytes);
}

bool on_device(const void* at) {
  return arena().holds(at);
}

void* allocate(std::size_t bytes, int device) {
  auto& all = allocations();
  Region& region = arena();
  const std::size_t size = (bytes + kPage - 1) / kPage * kPage + kPage;  // a page that nothing may touch
  if (!s_next) s_next = const_cast<char*>(region.begin);
  // The first gap from s_next on, so that freed memory comes again as late as possible.
  for (int round = 0; round < 2; ++round) {
    char* at = s_next;
    for (auto next = all.lower_bound(at);; ++next) {
      if (next != all.begin()) {
        const Allocation& before = std::prev(next)->second;
        at = std::max(at, before.begin + (before.bytes + kPage - 1) / kPage * kPage + kPage);
      }
      const char* limit = next == all.end() ? region.begin + region.bytes : next->first;
      if (at + size <= limit) {
        all[at] = {at, bytes, device};
        set_state(region, at, bytes, kOpen, kWritten);
        s_next = at + size;
        return at;
      }
      if (next == all.end()) break;
    }
    s_next = const_cast<char*>(region.begin);
  }
  return nullptr;
}

bool release(void* memory) {
  auto& all = allocations();
  const auto found = all.find(static_cast<const char*>(memory));
  if (found == all.end()) return false;
  Region& region = arena();
  const Allocation gone = found->second;
  all.erase(found);
  const std::size_t size = (gone.bytes + kPage - 1) / kPage * kPage;
  const std::size_t word = static_cast<std::size_t>(gone.begin - region.begin) / kWord;
  set_state(region, gone.begin, gone.bytes, 0, kOpen | kWritten);
  madvise(gone.begin, size, MADV_DONTNEED);
  // Whole pages of marks: kPage / kWord of them are 10 pages.
  static_assert(kPage / kWord * sizeof(Marks) % kPage == 0);
  madvise(region.marks + word, size / kWord * sizeof(Marks), MADV_DONTNEED);
  return true;
}

const Allocation* allocation_of(const void* at) {
  const auto& all = allocations();
  auto next = all.upper_bound(static_cast<const char*>(at));
  if (next == all.begin()) return nullptr;
  const Allocation& found = std::prev(next)->second;
  return static_cast<const char*>(at) < found.begin + found.bytes ? &found : nullptr;
}

std::size_t allocated(int device) {
  std::size_t bytes = 0;
  for (const auto& [at, one] : allocations())
    if (one.device == device) bytes += one.bytes;
  return bytes;
}

namespace {

std::string check_open(const void* at, std::size_t bytes) {
  const Allocation* found = allocation_of(at);
  if (!found || static_cast<const char*>(at) + bytes > found->begin + found->bytes)
    return "a copy of " + std::to_string(bytes) + " bytes runs out of bounds: " + place(at);
  return "";
}

}  // namespace

std::string copied_in(void* to, std::size_t bytes) {
  std::string wrong = check_open(to, bytes);
  if (wrong.empty()) set_state(arena(), static_cast<char*>(to), bytes, kWritten, 0);
  return wrong;
}

std::string copied_out(const void* from, std::size_t bytes) {
  std::string wrong = check_open(from, bytes);
  if (!wrong.empty()) return wrong;
  const std::size_t begin = static_cast<std::size_t>(static_cast<const char*>(from) - arena().begin);
  for (std::size_t i = begin; i < begin + bytes; ++i)
    if (!(arena().state[i / kWord] >> (4 + i % kWord) & 1))
      return "a copy to the host reads what nobody wrote: " + place(arena().begin + i);
  return "";
}

std::string copied_within(void* to, const void* from, std::size_t bytes) {
  std::string wrong = check_open(to, bytes);
  if (wrong.empty()) wrong = check_open(from, bytes);
  if (!wrong.empty()) return wrong;
  Region& region = arena();
  const std::size_t a = static_cast<std::size_t>(static_cast<const char*>(from) - region.begin);
  const std::size_t b = static_cast<std::size_t>(static_cast<char*>(to) - region.begin);
  if (a % kWord == 0 && b % kWord == 0 && bytes % kWord == 0) {
    std::memmove(region.state + b / kWord, region.state + a / kWord, bytes / kWord);
    return "";
  }
  for (std::size_t i = 0; i < bytes; ++i) {
    const bool written = region.state[(a + i) / kWord] >> (4 + (a + i) % kWord) & 1;
    set_state(region, region.begin + b + i, 1, written ? kWritten : 0, written ? 0 : kWritten);
  }
  return "";
}

void set_arguments(const void* begin, std::size_t bytes) {
  s_arguments = static_cast<const char*>(begin);
  s_argument_bytes = bytes;
}

void set_shared(const char* begin, std::size_t bytes) {
  s_shared = begin;
  s_shared_bytes = bytes;
  set_state(arena(), begin, bytes, 0, kOpen | kWritten);
}

void clear_shared(char* memory, std::size_t bytes) {
  set_state(arena(), memory, bytes, kOpen, kWritten);
}

void forget(void* at, std::size_t bytes) {
  set_state(arena(), static_cast<char*>(at), bytes, 0, kWritten);
}

namespace {

// The first byte that lacks one of the bits.
std::string lacking(const void* at, std::size_t bytes, unsigned bits, const char* how) {
  const Region& region = arena();
  if (!region.holds(at)) return hex(at) + ", which is not the device's";
  const std::size_t begin = static_cast<std::size_t>(static_cast<const char*>(at) - region.begin);
  for (std::size_t i = begin; i < begin + bytes; ++i)
    if ((region.state[i / kWord] >> i % kWord & bits) != bits) return place(region.begin + i) + how;
  return "";
}

}  // namespace

std::string begun(void* at, std::size_t bytes) {
  std::string wrong = lacking(at, bytes, kOpen, ", out of bounds");
  if (wrong.empty()) forget(at, bytes);
  return wrong;
}

std::string arrived(void* at, std::size_t bytes) {
  std::string wrong = lacking(at, bytes, kOpen, ", out of bounds");
  if (wrong.empty()) set_state(arena(), static_cast<char*>(at), bytes, kWritten, 0);
  return wrong;
}

std::string unreadable(const void* at, std::size_t bytes) {
  return lacking(at, bytes, kOpen | kWritten, ", which is out of bounds or was not written");
}

}  // namespace emulation

// ---- what -fsanitize=thread puts before every access of a kernel -----------------------------------------

namespace {

// Most are of the thread's own stack.
inline void seen(const void* at, std::size_t bytes, emulation::Access kind) {
  const emulation::Actor* now = emulation::actor;
  const char* byte = static_cast<const char*>(at);
  if (now && byte >= now->stack_low && byte < now->stack_high) return;
  emulation::access(at, bytes, kind);
}

}  // namespace

#define EMULATED_ACCESS(bytes)                   \
  void __tsan_read##bytes(void* at) {            \
    seen(at, bytes, emulation::Access::read);    \
  }                                              \
  void __tsan_write##bytes(void* at) {           \
    seen(at, bytes, emulation::Access::write);   \
  }                                              \
  void __tsan_unaligned_read##bytes(void* at) {  \
    seen(at, bytes, emulation::Access::read);    \
  }                                              \
  void __tsan_unaligned_write##bytes(void* at) { \
    seen(at, bytes, emulation::Access::write);   \
  }                                              \
  void __tsan_volatile_read##bytes(void* at) {   \
    seen(at, bytes, emulation::Access::read);    \
  }                                              \
  void __tsan_volatile_write##bytes(void* at) {  \
    seen(at, bytes, emulation::Access::write);   \
  }

extern "C" {
EMULATED_ACCESS(1)
EMULATED_ACCESS(2)
EMULATED_ACCESS(4)
EMULATED_ACCESS(8)
EMULATED_ACCESS(16)
// Of structures, whose members are aligned by themselves.
void __tsan_read_range(void* at, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) seen(static_cast<char*>(at) + i, 1, emulation::Access::read);
}
void __tsan_write_range(void* at, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; ++i) seen(static_cast<char*>(at) + i, 1, emulation::Access::write);
}
void __tsan_vptr_update(void** at, void*) {
  seen(at, sizeof(void*), emulation::Access::write);
}
void __tsan_vptr_read(void** at) {
  seen(at, sizeof(void*), emulation::Access::read);
}
// The host's own: counts of shared pointers, guards of static variables.
std::uint32_t __tsan_atomic32_fetch_add(volatile std::uint32_t* at, std::uint32_t value, int) {
  return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST);
}
std::uint8_t __tsan_atomic8_load(const volatile std::uint8_t* at, int) {
  return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
}
