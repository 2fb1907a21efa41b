#include "native/core/lost_pages.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <mutex>

#include "native/core/pages.h"

namespace personascope {

// Read by the handler at any time: never freed, used again for another mapping.
struct WatchedMapping {
  std::atomic<std::uintptr_t> begin{0}, end{0};  // end is 0 where there is none
  std::atomic<std::uintptr_t> lost{0};           // from here on zeros stand for the file's pages, unless 0
  WatchedMapping* next = nullptr;
  std::string path;  // guarded by the mutex
};

namespace {

static_assert(std::atomic<std::uintptr_t>::is_always_lock_free);

// What the handler touches.
std::atomic<WatchedMapping*> mappings{nullptr};
// Changes whenever pages are lost, and when zeros make way again.
std::atomic<std::uint64_t> changes{0};
// Mappings in which zeros can be read, and handlers at work.
std::atomic<int> zeroed{0};
struct sigaction previous{};

struct Watch {
  std::mutex mutex;
  int nothing = -1;       // a file without content: reading a mapping of it raises SIGBUS
  std::string last_lost;  // the path of a mapping that was
};

void pass_on(int signal, siginfo_t* info, void* context) {
  if (previous.sa_flags & SA_SIGINFO) return previous.sa_sigaction(signal, info, context);
  if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) return previous.sa_handler(signal);
  // The access is tried again, and ends the process as it would have.
  struct sigaction plain{};
  plain.sa_handler = SIG_DFL;
  sigaction(signal, &plain, nullptr);
}

// From here on zeros stand for the mapping's pages; true where none did before.
bool note_lost(WatchedMapping& mapping, std::uintptr_t page) {
  std::uintptr_t lost = mapping.lost;
  while (lost == 0 || page < lost)
    if (mapping.lost.compare_exchange_weak(lost, page)) return lost == 0;
  return false;
}

void on_bus_error(int signal, siginfo_t* info, void* context) {
  const int error = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  for (WatchedMapping* one = mappings; one; one = one->next) {
    const std::uintptr_t begin = one->begin, end = one->end;
    if (address < begin || address >= end) continue;
    // First told, then done: nobody reads a zero without a check that fails.
    ++changes;
    ++zeroed;
    // All that follows is lost too where a file was shortened: one signal instead of one a page.
    const std::uintptr_t page = address / kPage * kPage;
    const bool done = mmap(reinterpret_cast<void*>(page), end - page, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED;
    if (!done || !note_lost(*one, page)) --zeroed;  // else counted until they make way
    errno = error;
    if (done) return;
    break;
  }
  pass_on(signal, info, context);
}

Watch& watch() {
  static Watch* const leaked = [] {
    auto* const made = new Watch;
    made->nothing = memfd_create("personascope-lost-pages", MFD_CLOEXEC);
    struct sigaction action{};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, nullptr, &previous);  // before ours can be called
    sigaction(SIGBUS, &action, nullptr);
    return made;
  }();
  return *leaked;
}

// Makes the next read of a lost page a loss again. Where the system refuses, the zeros stay and every check
// fails.
void arm_again(Watch& all) {
  for (WatchedMapping* one = mappings; one; one = one->next) {
    const std::uintptr_t lost = one->lost.exchange(0), end = one->end;
    if (lost == 0) continue;
    all.last_lost = one->path;
    const bool armed =
        all.nothing >= 0 && mmap(reinterpret_cast<void*>(lost), end - lost, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, all.nothing, 0) != MAP_FAILED;
    if (!armed && note_lost(*one, lost)) continue;  // they still count
    ++changes;                                      // who read zeros until now is to see it still
    --zeroed;
  }
}

}  // namespace

WatchedMapping* watch_mapping(const void* data, std::size_t size, const std::string& path) {
  Watch& all = watch();
  const std::lock_guard lock(all.mutex);
  WatchedMapping* mapping = mappings;
  while (mapping && mapping->end != 0) mapping = mapping->next;
  if (!mapping) {
    mapping = new WatchedMapping;
    mapping->next = mappings;
    mappings = mapping;
  }
  mapping->path = path;
  mapping->begin = reinterpret_cast<std::uintptr_t>(data);
  mapping->end = mapping->begin + in_pages(size);
  return mapping;
}

void forget_mapping(WatchedMapping* mapping) {
  Watch& all = watch();
  const std::lock_guard lock(all.mutex);
  mapping->end = 0;
  if (mapping->lost.exchange(0) == 0) return;
  all.last_lost = mapping->path;
  ++changes;
  --zeroed;
}

MappedReads::MappedReads() : before_(changes) {}

bool MappedReads::lost() const {
  return zeroed != 0 || changes != before_;
}

Error MappedReads::error() const {
  Watch& all = watch();
  const std::lock_guard lock(all.mutex);
  arm_again(all);
  return {ErrorCode::io,
          (all.last_lost.empty() ? "a mapped file" : all.last_lost) +
              ": part of it could not be read: another program shortened it, or its disk failed"};
}

}  // namespace personascope
