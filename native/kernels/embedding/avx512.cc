// Embedding with AVX-512; the body is simd.inl.
#include "native/kernels/embedding/variants.h"

#include "native/kernels/simd/target_avx512.h"

#include "native/kernels/simd/lanes_avx512.h"

#include "native/kernels/embedding/simd.inl"

namespace personascope {

const EmbeddingKernels embedding_avx512 = {forward, add};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
