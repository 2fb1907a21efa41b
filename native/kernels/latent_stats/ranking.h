// Latents in the order of a figure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace personascope {

// The numbers 0 ... count - 1 by falling (or rising) value; equal ones by lower number, NaN last.
std::vector<std::uint32_t> ranking(const double* values, std::size_t count, bool falling);

}  // namespace personascope
