#include "test/emulation/fibre.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined(__x86_64__)
#error "The emulated machine switches stacks of x86-64."
#endif

// Keeps what a call must keep (System V ABI) and exchanges the stacks.
extern "C" void personascope_emulation_switch(void** from, void* to);
asm(R"(
.text
.local personascope_emulation_switch
.type personascope_emulation_switch, @function
personascope_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size personascope_emulation_switch, .-personascope_emulation_switch
)");

namespace emulation {

char* stack_memory(std::size_t number) {
  constexpr std::size_t kGuard = 4096;
  thread_local std::vector<char*> stacks;  // a launch runs on the thread that waits for it
  while (stacks.size() <= number) {
    void* memory =
        mmap(nullptr, kStackBytes + kGuard, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kGuard, PROT_NONE) != 0) {
      std::perror("emulation: a stack");
      std::abort();
    }
    stacks.push_back(static_cast<char*>(memory) + kGuard);
  }
  return stacks[number];
}

void prepare(Fibre& fibre, std::size_t number, void (*entry)()) {
  char* low = stack_memory(number);
  fibre.low = low;
  fibre.bytes = kStackBytes;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(low, kStackBytes);  // the fibre before may have ended anywhere
#endif
  // Tops lie at different places of a page, or all would share the same lines of the cache.
  char* top = low + kStackBytes - number % 24 * 128;
  auto** words = reinterpret_cast<void**>(top);
  *--words = nullptr;  // where entry() would return to; the stack is aligned as after a call
  *--words = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--words = nullptr;
  fibre.at = words;
}

void switch_fibre(Fibre& from, Fibre& to, [[maybe_unused]] bool last) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(last ? nullptr : &from.sanitizer, to.low, to.bytes);
#endif
  personascope_emulation_switch(&from.at, to.at);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(from.sanitizer, nullptr, nullptr);
#endif
}

void entered([[maybe_unused]] Fibre& from) {
#if defined(__SANITIZE_ADDRESS__)
  const void* low = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &low, &bytes);
  if (!from.low) {
    from.low = static_cast<const char*>(low);
    from.bytes = bytes;
  }
#endif
}

}  // namespace emulation
