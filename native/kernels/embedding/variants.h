// The variants of the embedding; contract in embedding.h.
#pragma once
#include "native/kernels/embedding/embedding.h"

namespace personascope {
extern const EmbeddingKernels embedding_reference;
extern const EmbeddingKernels embedding_avx2;
extern const EmbeddingKernels embedding_avx512;
}  // namespace personascope
