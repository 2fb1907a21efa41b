// Finding NaN and infinities.
#pragma once
#include <cstddef>

namespace personascope {

// Index of the first NaN or infinity, or `count`. Runs over blocks on all threads; the answer does not depend
// on them.
std::size_t first_non_finite(const float* values, std::size_t count);

}  // namespace personascope
