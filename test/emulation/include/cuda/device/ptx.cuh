// What cuda/device/ptx.cuh says in PTX, on the emulated machine.
#pragma once
#include <cuda_runtime.h>

#include <cstdint>

#include "test/emulation/tensor_core.h"

namespace personascope::cuda {

template <class T>
inline T& static_shared() {
  static const char name = 0;  // one a type
  return *static_cast<T*>(emulation::static_shared(&name, sizeof(T)));
}
template <class T>
inline T* dynamic_shared() {
  return reinterpret_cast<T*>(emulation::dynamic_shared());
}

inline uint4 load_once(const std::uint8_t* at) {
  return __ldg(reinterpret_cast<const uint4*>(at));
}

inline void copy_async(void* shared, const void* global) {
  emulation::copy_async(shared, global, 16);
}
inline void copy_commit() {
  emulation::copy_commit();
}
template <int kPending>
inline void copy_wait() {
  emulation::copy_wait(kPending);
}

inline void mma_bf16(float (&sums)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2, std::uint32_t a3,
                     std::uint32_t b0, std::uint32_t b1) {
  emulation::MmaLane<float> lane = {{a0, a1, a2, a3}, {b0, b1}, sums};
  emulation::warp_together(0xffffffffu, "mma.sync.m16n8k16 bf16", &lane, emulation::mma_m16n8k16_bf16);
}
inline void mma_int8(std::int32_t (&sums)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                     std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
  emulation::MmaLane<std::int32_t> lane = {{a0, a1, a2, a3}, {b0, b1}, sums};
  emulation::warp_together(0xffffffffu, "mma.sync.m16n8k32 s8", &lane, emulation::mma_m16n8k32_s8);
}

}  // namespace personascope::cuda
