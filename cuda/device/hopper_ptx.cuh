// Hopper's instructions: warp-group products, bulk copies, barriers in shared memory, clusters. Only for
// sm_90a: PERSONASCOPE_HOPPER says that they are there. test/emulation has a header of this name.
#pragma once
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace personascope::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define PERSONASCOPE_HOPPER

__device__ inline std::uint32_t shared_address(const void* at) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(at));
}

// ---- barriers --------------------------------------------------------------------------------------------

__device__ inline void barrier_init(std::uint64_t* barrier, std::uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals)
               : "memory");
}
// Makes the initial barriers known to bulk copies and to the other blocks of the cluster.
__device__ inline void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
// This thread arrives; the phase ends when `bytes` have come too.
__device__ inline void arrive_expecting(std::uint64_t* barrier, std::uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(bytes)
               : "memory");
}
// Arrives at the barrier of the block of that rank in the cluster that lies where this block's does.
__device__ inline void arrive_at(std::uint64_t* barrier, std::uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
}
__device__ inline std::uint64_t nanoseconds() {
  std::uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}
// Waits for the end of the phase of that parity. A wait of many seconds is a defect: better an error than a
// hang.
__device__ inline void wait_for(std::uint64_t* barrier, std::uint32_t parity) {
  constexpr std::uint64_t kPatience = 20'000'000'000;
  const std::uint32_t at = shared_address(barrier);
  std::uint64_t since = 0;
  for (std::uint32_t tries = 0;; ++tries) {
    std::uint32_t done;
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(at), "r"(parity)
        : "memory");
    if (done) return;
    if (tries % 1024 != 1023) continue;
    if (since == 0) since = nanoseconds();
    if (nanoseconds() - since > kPatience) __trap();
  }
}

// Of one warp group: threads of this block, a multiple of 32.
template <int kThreads>
__device__ inline void named_sync(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kThreads) : "memory");
}

// Registers a thread of this warp group may use from here on.
template <int kRegisters>
__device__ inline void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ inline void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// ---- clusters --------------------------------------------------------------------------------------------

__device__ inline std::uint32_t cluster_rank() {
  std::uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
__device__ inline void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// ---- bulk copies -----------------------------------------------------------------------------------------

// A box of the map at (byte, row) to shared memory; completes on the barrier.
__device__ inline void copy_box(void* to, const CUtensorMap* map, std::int32_t byte, std::int32_t row,
                                std::uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], "
      "[%4];" ::"r"(shared_address(to)),
      "l"(map), "r"(byte), "r"(row), "r"(shared_address(barrier))
      : "memory");
}
// The same to every block of the cluster whose bit is set, each completing on its own barrier.
__device__ inline void copy_box_to_all(void* to, const CUtensorMap* map, std::int32_t byte, std::int32_t row,
                                       std::uint64_t* barrier, std::uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], "
      "[%1, "
      "{%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
      "l"(map), "r"(byte), "r"(row), "r"(shared_address(barrier)), "h"(blocks)
      : "memory");
}
__device__ inline void prefetch_map(const CUtensorMap* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// ---- products --------------------------------------------------------------------------------------------

__device__ inline void product_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void product_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// At most kPending groups are still under way then.
template <int kPending>
__device__ inline void product_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
template <class T>
__device__ inline void hold(T (&sums)[128]);
template <>
__device__ inline void hold(float (&sums)[128]) {
#pragma unroll
  for (int i = 0; i < 128; ++i) asm volatile("" : "+f"(sums[i])::"memory");
}
template <>
__device__ inline void hold(std::int32_t (&sums)[128]) {
#pragma unroll
  for (int i = 0; i < 128; ++i) asm volatile("" : "+r"(sums[i])::"memory");
}

#define PERSONASCOPE_SUMS                                                                        \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                      \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
#define PERSONASCOPE_4(c, d, i) c(d[i]), c(d[i + 1]), c(d[i + 2]), c(d[i + 3])
#define PERSONASCOPE_16(c, d, i)                                                     \
  PERSONASCOPE_4(c, d, i), PERSONASCOPE_4(c, d, i + 4), PERSONASCOPE_4(c, d, i + 8), \
      PERSONASCOPE_4(c, d, i + 12)
#define PERSONASCOPE_64(c, d, i)                                                          \
  PERSONASCOPE_16(c, d, i), PERSONASCOPE_16(c, d, i + 16), PERSONASCOPE_16(c, d, i + 32), \
      PERSONASCOPE_16(c, d, i + 48)

// sums (64 x 256) = or += A (64 rows) B (256 rows), 32 bytes of k.
struct Bf16Wgmma {
  using Sum = float;
  __device__ static void multiply(float (&sums)[128], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 " PERSONASCOPE_SUMS
        "%128, %129, p, 1, 1, 0, 0;\n}"
        : PERSONASCOPE_64("+f", sums, 0), PERSONASCOPE_64("+f", sums, 64)
        : "l"(a), "l"(b), "r"(static_cast<std::int32_t>(add)));
  }
};
struct Int8Wgmma {
  using Sum = std::int32_t;
  __device__ static void multiply(std::int32_t (&sums)[128], std::uint64_t a, std::uint64_t b, bool add) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 " PERSONASCOPE_SUMS "%128, %129, p;\n}"
        : PERSONASCOPE_64("+r", sums, 0), PERSONASCOPE_64("+r", sums, 64)
        : "l"(a), "l"(b), "r"(static_cast<std::int32_t>(add)));
  }
};

#undef PERSONASCOPE_64
#undef PERSONASCOPE_16
#undef PERSONASCOPE_4
#undef PERSONASCOPE_SUMS

#endif

}  // namespace personascope::cuda
