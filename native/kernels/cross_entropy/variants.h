// The variants of cross-entropy; contract in cross_entropy.h.
#pragma once
#include "native/kernels/cross_entropy/cross_entropy.h"

namespace personascope {
void cross_entropy_reference(const CrossEntropyArgs& args, std::size_t begin, std::size_t end);
void cross_entropy_avx2(const CrossEntropyArgs& args, std::size_t begin, std::size_t end);
void cross_entropy_avx512(const CrossEntropyArgs& args, std::size_t begin, std::size_t end);
}  // namespace personascope
