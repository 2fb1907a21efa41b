// A machine that runs CUDA kernels on the host, for tests: every thread of a block is a fibre, which runs
// until it has to wait for others. It looks for what would be a defect on a GPU: accesses outside of
// allocations, reading what nobody wrote, races (memory.h), threads that miss a barrier, waits without end.
//
// The first defect of a launch ends it; the call that waits for it then returns cudaErrorLaunchFailure, and
// cudaGetErrorString says what it was. Environment:
//   PERSONASCOPE_EMULATION_SEED     order of blocks, threads, pending copies and streams' work, the way sums
//                                   are rounded (0: plain order, and everything as late as it can be)
//   PERSONASCOPE_EMULATION_HOPPER   1: pretends to be of compute capability 9.0, else 8.0
//   PERSONASCOPE_EMULATION_MEMORY   bytes of device memory (2 GiB)
//   PERSONASCOPE_EMULATION_DEVICES  how many devices there are (1)
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace emulation {

// ---- for kernels -----------------------------------------------------------------------------------------

// Of the running fibre; they never change while it lives.
__attribute__((const)) uint3 thread_index();
__attribute__((const)) uint3 block_index();
__attribute__((const)) dim3 block_size();
__attribute__((const)) dim3 grid_size();
std::uint8_t* dynamic_shared();
// The block's memory of that name.
void* static_shared(const void* name, std::size_t bytes);

// Ends the launch; of the running thread.
[[noreturn]] void defect(const std::string& what);
// The same, of the machine's own work.
void report(const std::string& what);

enum class Access { read, write, atomic, constant };
// Checks what the running thread is about to do. Nothing without one.
void access(const void* at, std::size_t bytes, Access kind);
// memcpy without a check.
void copy_unseen(void* to, const void* from, std::size_t bytes);

// Waits for `threads` threads of the block (0: all) at the barrier of that number.
void block_barrier(int number, unsigned threads);

// Copies of this thread to shared memory, in groups. Nothing arrives before the wait for its group.
void copy_async(void* shared, const void* global, std::size_t bytes);
void copy_commit();
void copy_wait(unsigned pending);

// Waits for the lanes of the mask. The last one calls combine(operands of all 32 lanes, null outside of the
// mask); nobody goes on before.
using Combine = void (*)(void* const* operands);
void warp_together(unsigned mask, const char* what, void* operand, Combine combine);

struct Shuffled {
  std::uint64_t value;
  int from;
};
void shuffle(void* const* operands);
struct Ballot {
  bool yes;
  unsigned votes;
};
void ballot(void* const* operands);

// Of the cluster: this block's number in it, and a barrier of all its threads.
unsigned cluster_rank();
void cluster_barrier();
// The address that instructions see, an offset in the block's window; where the window of a block of the
// cluster lies, null where there is no such block or all its threads have left.
std::uint32_t shared_address(const void* at);
char* shared_window(unsigned rank);
constexpr std::size_t kSharedWindow = 228 * 1024;
// Of the running thread in its cluster.
unsigned thread_key();

// Waits until ready() says so; others run meanwhile. what: for the report of a wait without end.
void wait_until(const char* what, const std::function<bool()>& ready);

// ---- launches --------------------------------------------------------------------------------------------

struct Grid {
  const void* kernel;
  dim3 blocks, threads;
  std::size_t shared_bytes;
  unsigned cluster;
  // What every thread calls, with the kernel and its arguments.
  void (*body)(const void* call);
  std::shared_ptr<const void> call;
  std::size_t call_bytes;
};
cudaError_t allow_shared(const void* kernel, int bytes);
// Puts it into the stream.
cudaError_t launch(cudaStream_t stream, Grid grid);
// Whether a device could start it.
bool sound(const Grid& grid);
// Runs it; "" or the first defect.
std::string run(const Grid& grid);

// A number that depends on the seed and on how often it was asked for; 0 where the seed is 0.
std::uint32_t chance();
std::uint64_t seed();

}  // namespace emulation
