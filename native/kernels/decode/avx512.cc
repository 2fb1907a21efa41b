// Decoding with AVX-512; the body is simd.inl.
#include "native/kernels/decode/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/simd/rows_avx512.h"

#include "native/kernels/decode/simd.inl"

namespace personascope {

void decode_avx512(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  decode_rows(args, begin, end);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
