// The memory of the emulated devices, with what is known of every byte: whether it may be accessed, whether
// somebody wrote it, and who accessed it last.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "test/emulation/machine.h"

namespace emulation {

// ---- allocations -----------------------------------------------------------------------------------------

struct Allocation {
  char* begin;
  std::size_t bytes;
  int device;
};
void* allocate(std::size_t bytes, int device);
// false: there is no such allocation.
bool release(void* memory);
// The allocation that holds the address; null for the host's memory.
const Allocation* allocation_of(const void* at);
std::size_t allocated(int device);
bool on_device(const void* at);

// What copies do to bytes of either side. They return "" or what is wrong.
std::string copied_in(void* to, std::size_t bytes);           // from the host: all is written
std::string copied_out(const void* from, std::size_t bytes);  // to the host: all must have been
std::string copied_within(void* to, const void* from, std::size_t bytes);

// ---- of a launch -----------------------------------------------------------------------------------------

// Who accesses; one a running thread.
struct Actor {
  const char *stack_low, *stack_high;
  std::uint32_t launch, block, thread;
  std::uint32_t phase;              // barriers that this thread has passed
  const std::uint32_t* warp_phase;  // __syncwarp's that its warp has passed
};
// Null where no kernel runs.
extern __thread Actor* actor;
// The machine at work for a thread: what it does itself is not looked at. (The linker may have given it the
// kernels' instrumented copies of std's templates.)
class Outside {
 public:
  Outside() : actor_(actor) { actor = nullptr; }
  ~Outside() { actor = actor_; }
  Outside(const Outside&) = delete;
  Outside& operator=(const Outside&) = delete;

 private:
  Actor* actor_;
};

// The arguments of the kernel that runs: they may be read.
void set_arguments(const void* begin, std::size_t bytes);
// Where blocks have their shared memory: nothing of it may be accessed. Then parts may, which hold nothing.
void set_shared(const char* begin, std::size_t bytes);
void clear_shared(char* memory, std::size_t bytes);
// Nobody has written it: a copy to it has begun.
void forget(void* at, std::size_t bytes);
// Copies to shared memory that nobody executes: begun, and arrived; and reads of that kind. They return "" or
// which bytes must not be touched.
std::string begun(void* at, std::size_t bytes);
std::string arrived(void* at, std::size_t bytes);
std::string unreadable(const void* at, std::size_t bytes);

}  // namespace emulation
