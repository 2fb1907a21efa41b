// Whether this build holds Hopper's kernels in a form that the device runs. A build for sm_90 without the
// "a", or PTX compiled by the driver, has them empty: they would find no codes.
#include "cuda/device/hopper_ptx.cuh"
#include "cuda/device/launch.cuh"

namespace personascope::cuda {

namespace {

__global__ void probe_kernel(int* built) {
#if defined(PERSONASCOPE_HOPPER)
  *built = 1;
#else
  *built = 0;
#endif
}

}  // namespace

bool runs_hopper_kernels(int device) {
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, device), "asking the device");
  if (properties.major != 9 || properties.minor != 0) return false;
  const Stream stream;
  const Buffer<int> built(1, "a probe");
  launch("probe", probe_kernel, {1, 1}, stream, built.data());
  int found = 0;
  copy_bytes(&found, built.data(), sizeof found, stream, "a probe");
  return found == 1;
}

}  // namespace personascope::cuda
