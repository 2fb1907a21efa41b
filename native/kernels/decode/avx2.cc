// Decoding with AVX2 + FMA; the body is simd.inl.
#include "native/kernels/decode/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/simd/rows_avx2.h"

#include "native/kernels/decode/simd.inl"

namespace personascope {

void decode_avx2(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  decode_rows(args, begin, end);
}

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
