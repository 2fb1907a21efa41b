// Sparse decoding: out[t] = bias + sum over the codes of t of value * W_dec[latent], each element one chain
// of fused multiply-adds in the order of the codes, as native/kernels/decode: the same bits.
//
// Bound by memory: every code reads one row. A thread owns eight elements of a token; the rows of several
// codes are in flight at once, since their addresses do not depend on each other.
#include "cuda/device/codes.h"
#include "cuda/device/launch.cuh"
#include "cuda/device/rows.cuh"
#include "cuda/operations.h"

namespace personascope::cuda {

namespace {

constexpr int kThreads = 128, kTogether = 8;

struct DecodeArgs {
  const std::uint64_t* offsets;
  const std::uint32_t* indices;
  const float* values;
  const std::uint8_t* weights;
  std::size_t stride, width;
  const float* bias;  // or null
  float* out;
  std::size_t out_stride;
};

__global__ void __launch_bounds__(256) check_latents_kernel(const std::uint32_t* indices, std::uint64_t pairs,
                                                            std::uint64_t latents, unsigned long long* bad) {
  for (std::uint64_t i = blockIdx.x * 256ull + threadIdx.x; i < pairs; i += gridDim.x * 256ull)
    if (indices[i] >= latents) atomicMin(bad, i);
}

// kWide: rows begin at multiples of 16 bytes and are read eight elements at once.
template <class Reader, bool kWide>
__global__ void __launch_bounds__(kThreads) decode_kernel(const DecodeArgs args) {
  constexpr int kElements = kWide ? 8 : 1;
  const std::uint64_t token = blockIdx.x;
  const std::size_t at = (static_cast<std::size_t>(blockIdx.y) * kThreads + threadIdx.x) * kElements;
  if (at >= args.width) return;
  const std::uint64_t begin = args.offsets[token], end = args.offsets[token + 1];
  float sums[kElements];
#pragma unroll
  for (int i = 0; i < kElements; ++i) sums[i] = args.bias && at + i < args.width ? args.bias[at + i] : 0.0f;
  std::uint64_t code = begin;
  const auto read = [&](std::uint64_t which, float (&row)[kElements]) {
    const std::uint8_t* from = args.weights + __ldg(args.indices + which) * args.stride;
    if constexpr (kWide)
      Reader::eight(from, at / kElements, row);
    else
      row[0] = Reader::at(from, at);
  };
  for (; code + kTogether <= end; code += kTogether) {
    float rows[kTogether][kElements];
#pragma unroll
    for (int c = 0; c < kTogether; ++c) read(code + c, rows[c]);
#pragma unroll
    for (int c = 0; c < kTogether; ++c) {
      const float value = __ldg(args.values + code + c);
#pragma unroll
      for (int i = 0; i < kElements; ++i) sums[i] = fmaf(value, rows[c][i], sums[i]);
    }
  }
  for (; code < end; ++code) {
    float row[kElements];
    read(code, row);
    const float value = __ldg(args.values + code);
#pragma unroll
    for (int i = 0; i < kElements; ++i) sums[i] = fmaf(value, row[i], sums[i]);
  }
  float* out = args.out + token * args.out_stride + at;
#pragma unroll
  for (int i = 0; i < kElements; ++i)
    if (at + i < args.width) out[i] = sums[i];
}

}  // namespace

void decode(const DeviceDecodeArgs& given, const DeviceCodes& codes) {
  const DeviceRows& weights = given.weights;
  require(weights.place == Place::device, ErrorCode::invalid_argument,
          "decode: W_dec must lie on the device");
  require(given.out_stride >= weights.width, ErrorCode::invalid_argument,
          "decode: rows of " + std::to_string(given.out_stride) + " values, expected at least " +
              std::to_string(weights.width));
  if (codes.tokens == 0) return;
  Stream stream;
  const unsigned long long none = ~0ull;
  Buffer<unsigned long long> bad;
  upload(bad, &none, 1, stream, "findings");
  if (codes.pairs)
    launch("check_latents", check_latents_kernel, {256, 256}, stream, codes.indices.data(), codes.pairs,
           weights.rows, bad.data());
  unsigned long long found;
  copy_bytes(&found, bad.data(), sizeof found, stream, "findings");
  if (found != none) {
    std::uint32_t latent = 0;
    copy_bytes(&latent, codes.indices.data() + found, sizeof latent, stream, "codes");
    fail(ErrorCode::invalid_argument, "decode: code " + std::to_string(found) + " is of latent " +
                                          std::to_string(latent) + " of " + std::to_string(weights.rows));
  }
  Buffer<float> bias, out;
  if (given.bias) upload(bias, given.bias, weights.width, stream, "b_dec");
  DecodeArgs args = {};
  args.offsets = codes.offsets.data();
  args.indices = codes.indices.data();
  args.values = codes.values.data();
  args.weights = static_cast<const std::uint8_t*>(weights.data);
  args.stride = weights.stride;
  args.width = weights.width;
  args.bias = given.bias ? bias.data() : nullptr;
  args.out = given.out;
  args.out_stride = given.out_stride;
  if (given.place == Place::host) {
    out.reserve(codes.tokens * weights.width, "reconstructions");
    args.out = out.data();
    args.out_stride = weights.width;
  }
  // A wide read may run up to 7 elements past the width: rows must be that long.
  const std::size_t element = weights.dtype == Dtype::f32 ? 4 : 2;
  const bool wide = reinterpret_cast<std::uintptr_t>(weights.data) % 16 == 0 && weights.stride % 16 == 0 &&
                    weights.stride >= (weights.width + 7) / 8 * 8 * element;
  const std::size_t share = kThreads * (wide ? 8 : 1);
  const dim3 blocks(static_cast<unsigned>(codes.tokens),
                    static_cast<unsigned>((weights.width + share - 1) / share));
  with_reader(weights.dtype, [&](auto reader) {
    using Reader = decltype(reader);
    const auto kernel = wide ? decode_kernel<Reader, true> : decode_kernel<Reader, false>;
    launch("decode", kernel, {blocks, kThreads}, stream, args);
  });
  if (given.place == Place::host)
    check_cuda(cudaMemcpy2DAsync(given.out, given.out_stride * 4, out.data(), weights.width * 4,
                                 weights.width * 4, codes.tokens, cudaMemcpyDeviceToHost, stream),
               "copying reconstructions");
  stream.wait();
}

}  // namespace personascope::cuda
