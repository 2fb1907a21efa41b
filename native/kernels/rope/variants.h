// The variants of the rotary embedding; contract in rope.h.
#pragma once
#include "native/kernels/rope/rope.h"

namespace personascope {
void rope_reference(const RopeArgs& args, const float* cos, const float* sin, std::size_t begin,
                    std::size_t end);
void rope_avx2(const RopeArgs& args, const float* cos, const float* sin, std::size_t begin, std::size_t end);
void rope_avx512(const RopeArgs& args, const float* cos, const float* sin, std::size_t begin,
                 std::size_t end);
}  // namespace personascope
