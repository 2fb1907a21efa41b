// Sparse decoding:  out[t] = bias + sum over the codes of t of value * W_dec[latent].
//
// Rows of W_dec are fp32, or 16-bit floats widened exactly as they are read, wherever they lie (a mapped
// file, not even aligned). Each element is one chain of fused multiply-adds in the order of the codes,
// starting from the bias (or from out, if accumulate; then the bias is added first): the same bits on every
// ISA and for any number of threads.
//
// It is bound by memory: tokens x codes rows are read from random places, each once. So a row is read from
// its begin to its end (at most a page at a time) while the rows that come next are fetched.
#pragma once
#include <cstddef>

#include "native/core/dtype.h"
#include "native/core/isa.h"
#include "native/kernels/decode/codes.h"

namespace personascope {

struct DecodeArgs {
  CodesView codes;
  const void* weights = nullptr;  // [latents, stride] of `dtype`
  Dtype dtype = Dtype::f32;       // or f16, bf16
  std::size_t latents = 0, width = 0, stride = 0;
  const float* bias = nullptr;  // [width] or null
  float* out = nullptr;         // [tokens, out_stride]
  std::size_t out_stride = 0;
  bool accumulate = false;
};

// Throws invalid_argument for a latent that is not there (token and latent named) and for other dtypes;
// nothing is written then.
void decode(const DecodeArgs& args);

// Tokens [begin, end) on one thread.
using DecodeKernel = void (*)(const DecodeArgs& args, std::size_t begin, std::size_t end);
const Variants<DecodeKernel>& decode_variants();

}  // namespace personascope
