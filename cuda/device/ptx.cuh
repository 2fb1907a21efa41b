// Shared memory, and what only PTX says, for sm_80 and later. test/emulation has a header of this name that
// says the same for the host.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

namespace personascope::cuda {

// Shared memory of a block for one T, which is trivial: kernels put all they need into one structure. Nothing
// is there at first.
template <class T>
__device__ inline T& static_shared() {
  __shared__ T memory;
  return memory;
}
// The shared memory whose size the launch gives, at a multiple of 128 bytes.
template <class T>
__device__ inline T* dynamic_shared() {
  extern __shared__ __align__(128) std::uint8_t personascope_dynamic_shared[];
  return reinterpret_cast<T*>(personascope_dynamic_shared);
}

// Read once: it need not stay in the cache.
__device__ inline uint4 load_once(const std::uint8_t* at) {
  uint4 value;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
               : "l"(at));
  return value;
}

// ---- copies to shared memory that end later --------------------------------------------------------------

// 16 bytes.
__device__ inline void copy_async(void* shared, const void* global) {
  const auto at = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(at), "l"(global) : "memory");
}
__device__ inline void copy_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// At most kPending of this thread's groups are still under way then.
template <int kPending>
__device__ inline void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// ---- products of a warp: 16 x 8 results, 32 bytes deep ---------------------------------------------------
// sums += A (rows g, g + 8; words a0, a2 and a1, a3) * B (words b0, b1), g = lane / 4

__device__ inline void mma_bf16(float (&sums)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
__device__ inline void mma_int8(std::int32_t (&sums)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

}  // namespace personascope::cuda
