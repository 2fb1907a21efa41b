// Elements of fp32, bf16 and f16 rows, widened exactly.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "native/core/dtype.h"

namespace personascope::cuda {

template <Dtype kDtype>
struct RowReader;

template <>
struct RowReader<Dtype::f32> {
  static constexpr int kBytes = 4;
  __device__ static float at(const std::uint8_t* row, std::size_t i) {
    return reinterpret_cast<const float*>(row)[i];
  }
  // Elements 8 group ... 8 group + 7; the row begins at a multiple of 16 bytes.
  __device__ static void eight(const std::uint8_t* row, std::size_t group, float (&out)[8]) {
    const float4* at = reinterpret_cast<const float4*>(row) + 2 * group;
    const float4 low = __ldg(at), high = __ldg(at + 1);
    out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
    out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
  }
};

template <>
struct RowReader<Dtype::bf16> {
  static constexpr int kBytes = 2;
  __device__ static float at(const std::uint8_t* row, std::size_t i) {
    return __uint_as_float(static_cast<std::uint32_t>(reinterpret_cast<const std::uint16_t*>(row)[i]) << 16);
  }
  __device__ static void eight(const std::uint8_t* row, std::size_t group, float (&out)[8]) {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(row) + group);
    const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      out[2 * i] = __uint_as_float(words[i] << 16);
      out[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
  }
};

template <>
struct RowReader<Dtype::f16> {
  static constexpr int kBytes = 2;
  __device__ static float at(const std::uint8_t* row, std::size_t i) {
    return __half2float(reinterpret_cast<const __half*>(row)[i]);
  }
  __device__ static void eight(const std::uint8_t* row, std::size_t group, float (&out)[8]) {
    const uint4 bits = __ldg(reinterpret_cast<const uint4*>(row) + group);
    const std::uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      __half2_raw raw;
      raw.x = static_cast<std::uint16_t>(words[i]);
      raw.y = static_cast<std::uint16_t>(words[i] >> 16);
      const float2 pair = __half22float2(__half2(raw));
      out[2 * i] = pair.x;
      out[2 * i + 1] = pair.y;
    }
  }
};

// Calls body(RowReader<dtype>{}) for the dtype found at run time.
template <class Body>
void with_reader(Dtype dtype, const Body& body) {
  if (dtype == Dtype::f32)
    body(RowReader<Dtype::f32>{});
  else if (dtype == Dtype::bf16)
    body(RowReader<Dtype::bf16>{});
  else
    body(RowReader<Dtype::f16>{});
}

}  // namespace personascope::cuda
