// The variants of decoding; contract in decode.h.
#pragma once
#include "native/kernels/decode/decode.h"

namespace personascope {
void decode_reference(const DecodeArgs& args, std::size_t begin, std::size_t end);
void decode_avx2(const DecodeArgs& args, std::size_t begin, std::size_t end);
void decode_avx512(const DecodeArgs& args, std::size_t begin, std::size_t end);
}  // namespace personascope
