// Marks inline functions that GPU kernels use too: what both compute is written once, and tested on the host.
#pragma once

#if defined(__CUDACC__)
#define PERSONASCOPE_HOST_DEVICE __host__ __device__
#else
#define PERSONASCOPE_HOST_DEVICE
#endif
