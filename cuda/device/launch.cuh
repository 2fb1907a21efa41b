// Starting kernels: one way for all, which any compiler reads (test/emulation runs kernels on the host).
#pragma once
#include <cuda_runtime.h>

#include <cstddef>
#include <string>
#include <utility>

#include "cuda/device/runtime.h"

namespace personascope::cuda {

// cluster: blocks of the grid that share their memory (sm_90); it divides blocks.x.
struct Shape {
  dim3 blocks;
  unsigned threads;
  std::size_t shared_bytes = 0;  // dynamic
  unsigned cluster = 1;
};

// What a kernel asks for beyond 48 KiB must be allowed first, once a kernel and device.
template <class... Parameters>
void allow_shared(const char* name, void (*kernel)(Parameters...), std::size_t bytes) {
  check_cuda(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
      std::string("shared memory of the kernel ") + name);
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Shape& shape, cudaStream_t stream,
            Arguments&&... arguments) {
  cudaLaunchAttribute cluster = {};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = shape.cluster;
  cluster.val.clusterDim.y = cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.blocks;
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = shape.cluster > 1 ? 1 : 0;
  check_cuda(cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...),
             std::string("starting the kernel ") + name);
}

}  // namespace personascope::cuda
