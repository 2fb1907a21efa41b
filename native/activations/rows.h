// Rows of activations out of a mapped file, for streams larger than memory.
#pragma once
#include <cstdint>

#include "native/core/tensor.h"

namespace personascope {

// Writes rows [first, first + count) of `activations` [rows, width] as fp32 to `out` [count, width]: F32, F16
// and BF16 exactly, F64 rounded. In the calling thread, beside an encoder that has all threads of the pool.
//
// Throws format (other dtypes), non_finite (the first NaN or infinity: file, row and component named),
// invalid_argument (rows that are not there).
void read_rows(const Tensor& activations, std::uint64_t first, std::uint64_t count, float* out);

// Tells the system that these rows of a mapped file will be wanted soon, or not again: they are fetched, or
// leave this process's memory. Only for tensors that lie in a mapped file and were not written to.
void prefetch_rows(const Tensor& mapped, std::uint64_t first, std::uint64_t count);
void release_rows(const Tensor& mapped, std::uint64_t first, std::uint64_t count);

}  // namespace personascope
