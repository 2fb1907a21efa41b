// Decoding with AVX-512; the body is decode.inl.
#include <cstddef>
#include <cstdint>

#include "native/kernels/decode/variants.h"
// The vectors come last: they switch the file to their instruction set.
#include "native/kernels/simd/vec_avx512.h"
// clang-format off
#include "native/kernels/decode/decode.inl"
// clang-format on

namespace personascope {

void decode_avx512(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  decode_rows(args, begin, end);
}

}  // namespace personascope
