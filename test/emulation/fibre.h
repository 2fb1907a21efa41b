// Stacks that the host's thread switches between by hand.
#pragma once
#include <cstddef>

namespace emulation {

constexpr std::size_t kStackBytes = std::size_t{64} << 10;

struct Fibre {
  void* at = nullptr;         // its stack's top while it does not run
  const char* low = nullptr;  // its stack; null for the thread that started everything
  std::size_t bytes = 0;
  void* sanitizer = nullptr;  // what AddressSanitizer keeps of it
};

// Memory of stacks, kept from launch to launch; below each lies a page that nothing may touch.
char* stack_memory(std::size_t number);

// The fibre will call entry(), which never returns, when it is switched to.
void prepare(Fibre& fibre, std::size_t number, void (*entry)());
// Saves the running one in `from` and goes on with `to`. last: `from` will never run again.
void switch_fibre(Fibre& from, Fibre& to, bool last = false);
// To be called first in entry().
void entered(Fibre& from);

}  // namespace emulation
