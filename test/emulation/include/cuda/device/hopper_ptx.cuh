// What cuda/device/hopper_ptx.cuh says in PTX, on the emulated machine.
#pragma once
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "cuda/shared/tiles.h"
#include "test/emulation/hopper.h"

#define PERSONASCOPE_HOPPER

namespace personascope::cuda {

inline std::uint32_t shared_address(const void* at) {
  return emulation::shared_address(at);
}

inline void barrier_init(std::uint64_t* barrier, std::uint32_t arrivals) {
  emulation::mbarrier_init(barrier, arrivals);
}
inline void barrier_init_fence() {
  emulation::mbarrier_init_fence();
}
inline void arrive_expecting(std::uint64_t* barrier, std::uint32_t bytes) {
  emulation::mbarrier_arrive(barrier, bytes);
}
inline void arrive_at(std::uint64_t* barrier, std::uint32_t rank) {
  emulation::mbarrier_arrive_at(barrier, rank);
}
inline void wait_for(std::uint64_t* barrier, std::uint32_t parity) {
  emulation::mbarrier_wait(barrier, parity);
}

template <int kThreads>
inline void named_sync(int barrier) {
  emulation::block_barrier(barrier, kThreads);
}
template <int kRegisters>
inline void give_registers() {}
template <int kRegisters>
inline void take_registers() {}

inline std::uint32_t cluster_rank() {
  return emulation::cluster_rank();
}
inline void cluster_sync() {
  emulation::cluster_barrier();
}

inline void copy_box(void* to, const CUtensorMap* map, std::int32_t byte, std::int32_t row,
                     std::uint64_t* barrier) {
  emulation::copy_box(to, map, byte, row, barrier, 1u << emulation::cluster_rank());
}
inline void copy_box_to_all(void* to, const CUtensorMap* map, std::int32_t byte, std::int32_t row,
                            std::uint64_t* barrier, std::uint16_t blocks) {
  emulation::copy_box(to, map, byte, row, barrier, blocks);
}
inline void prefetch_map(const CUtensorMap*) {}

inline void product_fence() {
  emulation::product_fence();
}
inline void product_commit() {
  emulation::product_commit();
}
template <int kPending>
inline void product_wait() {
  emulation::product_wait(kPending);
}
template <class T>
inline void hold(T (&)[128]) {}

struct Bf16Wgmma {
  using Sum = float;
  static void multiply(float (&sums)[128], std::uint64_t a, std::uint64_t b, bool add) {
    emulation::product(sums, a, b, add);
  }
};
struct Int8Wgmma {
  using Sum = std::int32_t;
  static void multiply(std::int32_t (&sums)[128], std::uint64_t a, std::uint64_t b, bool add) {
    emulation::product(sums, a, b, add);
  }
};

}  // namespace personascope::cuda
