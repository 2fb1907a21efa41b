// CUDA C++ for a host compiler: keywords, built-in variables, intrinsics and launches, on the emulated
// machine (test/emulation/machine.h).
#pragma once
#include <cuda_runtime_api.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <tuple>
#include <utility>

#include "test/emulation/machine.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) alignas(bytes)

// Numbers of the running thread that are asked for where they are read.
template <auto kOf, auto kMember>
struct EmulatedNumber {
  operator unsigned() const { return kOf().*kMember; }
};
template <auto kOf, class Of>
struct EmulatedIndex {
  EmulatedNumber<kOf, &Of::x> x;
  EmulatedNumber<kOf, &Of::y> y;
  EmulatedNumber<kOf, &Of::z> z;
};
inline constexpr EmulatedIndex<emulation::thread_index, uint3> threadIdx;
inline constexpr EmulatedIndex<emulation::block_index, uint3> blockIdx;
inline constexpr EmulatedIndex<emulation::block_size, dim3> blockDim;
inline constexpr EmulatedIndex<emulation::grid_size, dim3> gridDim;

using std::isfinite;

template <class T>
inline T min(T a, T b) {
  return b < a ? b : a;
}
// Signed and unsigned, as CUDA's overloads.
inline unsigned min(unsigned a, int b) {
  return min(a, static_cast<unsigned>(b));
}
inline unsigned min(int a, unsigned b) {
  return min(static_cast<unsigned>(a), b);
}

// ---- memory ----------------------------------------------------------------------------------------------

// Through the cache that does not see writes of the same launch.
template <class T>
inline T __ldg(const T* at) {
  emulation::access(at, sizeof(T), emulation::Access::constant);
  T value;
  emulation::copy_unseen(&value, at, sizeof(T));
  return value;
}

template <class T, class Op>
inline T emulated_atomic(T* at, const Op& op) {
  emulation::access(at, sizeof(T), emulation::Access::atomic);
  T before, after;
  emulation::copy_unseen(&before, at, sizeof(T));
  after = op(before);
  emulation::copy_unseen(at, &after, sizeof(T));
  return before;
}
// Only the types that CUDA has.
inline unsigned atomicAdd(unsigned* at, unsigned value) {
  return emulated_atomic(at, [&](unsigned before) { return before + value; });
}
inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long value) {
  return emulated_atomic(at, [&](unsigned long long before) { return before + value; });
}
inline unsigned atomicMax(unsigned* at, unsigned value) {
  return emulated_atomic(at, [&](unsigned before) { return before > value ? before : value; });
}
inline unsigned long long atomicMin(unsigned long long* at, unsigned long long value) {
  return emulated_atomic(at, [&](unsigned long long before) { return before < value ? before : value; });
}

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline int __popc(unsigned bits) {
  return __builtin_popcount(bits);
}

// ---- threads together ------------------------------------------------------------------------------------

inline void __syncthreads() {
  emulation::block_barrier(0, 0);
}
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  emulation::warp_together(mask, "__syncwarp", nullptr, nullptr);
}
template <class T>
inline T __shfl_sync(unsigned mask, T value, int lane) {
  static_assert(sizeof(T) <= 8);
  emulation::Shuffled words = {0, lane & 31};
  std::memcpy(&words.value, &value, sizeof value);
  emulation::warp_together(mask, "__shfl_sync", &words, emulation::shuffle);
  std::memcpy(&value, &words.value, sizeof value);
  return value;
}
template <class T>
inline T __shfl_xor_sync(unsigned mask, T value, int lanes) {
  return __shfl_sync(mask, value, static_cast<int>((threadIdx.x & 31) ^ static_cast<unsigned>(lanes)));
}
inline unsigned __ballot_sync(unsigned mask, bool yes) {
  emulation::Ballot ballot = {yes, 0};
  emulation::warp_together(mask, "__ballot_sync", &ballot, emulation::ballot);
  return ballot.votes;
}
[[noreturn]] inline void __trap() {
  emulation::defect("__trap()");
}

// ---- launches --------------------------------------------------------------------------------------------

enum cudaLaunchAttributeID { cudaLaunchAttributeIgnore, cudaLaunchAttributeClusterDimension };
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    dim3 clusterDim;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

template <class... Parameters>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Parameters...), cudaFuncAttribute, int bytes) {
  return emulation::allow_shared(reinterpret_cast<const void*>(kernel), bytes);
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  emulation::Grid grid = {};
  grid.kernel = reinterpret_cast<const void*>(kernel);
  grid.blocks = config->gridDim;
  grid.threads = config->blockDim;
  grid.shared_bytes = config->dynamicSmemBytes;
  grid.cluster = 1;
  for (unsigned i = 0; i < config->numAttrs; ++i)
    if (config->attrs[i].id == cudaLaunchAttributeClusterDimension)
      grid.cluster = config->attrs[i].val.clusterDim.x;
  struct Call {
    void (*kernel)(Parameters...);
    std::tuple<Parameters...> arguments;
  };
  grid.body = [](const void* made) {
    const Call& call = *static_cast<const Call*>(made);
    std::apply(call.kernel, call.arguments);
  };
  grid.call = std::make_shared<Call>(Call{kernel, {std::forward<Arguments>(arguments)...}});
  grid.call_bytes = sizeof(Call);
  return emulation::launch(config->stream, std::move(grid));
}
