// Sparse decoding:  out[t] = bias + sum over the codes of t of value * W_dec[latent].
//
// Each element is one chain of fused multiply-adds in the order of the codes, starting from the bias (or from
// out, if accumulate; then the bias is added first): the same bits on every ISA and for any number of
// threads.
#pragma once
#include <cstddef>

#include "native/core/isa.h"
#include "native/kernels/decode/codes.h"

namespace personascope {

struct DecodeArgs {
  CodesView codes;
  const float* weights = nullptr;  // [latents, stride]
  std::size_t latents = 0, width = 0, stride = 0;
  const float* bias = nullptr;  // [width] or null
  float* out = nullptr;         // [tokens, out_stride]
  std::size_t out_stride = 0;
  bool accumulate = false;
};

// Throws invalid_argument for a latent that is not there (token and latent named); nothing is written then.
void decode(const DecodeArgs& args);

// Tokens [begin, end) on one thread.
using DecodeKernel = void (*)(const DecodeArgs& args, std::size_t begin, std::size_t end);
const Variants<DecodeKernel>& decode_variants();

}  // namespace personascope
