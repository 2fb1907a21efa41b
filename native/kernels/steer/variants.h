// The variants of steering; contract in steer.h.
#pragma once
#include "native/kernels/steer/steer.h"

namespace personascope {
void steer_reference(const SteerArgs& args, std::size_t begin, std::size_t end);
void steer_avx2(const SteerArgs& args, std::size_t begin, std::size_t end);
void steer_avx512(const SteerArgs& args, std::size_t begin, std::size_t end);
}  // namespace personascope
