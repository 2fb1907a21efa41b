// Embedding with AVX2; the body is simd.inl.
#include "native/kernels/embedding/variants.h"

#include "native/kernels/simd/target_avx2.h"

#include "native/kernels/simd/lanes_avx2.h"

#include "native/kernels/embedding/simd.inl"

namespace personascope {

const EmbeddingKernels embedding_avx2 = {forward, add};

}  // namespace personascope
#include "native/kernels/simd/target_end.h"
