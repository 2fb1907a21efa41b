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

// The calls below are for tensors that lie in a mapped file and were not written to.

// These rows will be wanted soon: they are fetched.
void prefetch_rows(const Tensor& mapped, std::uint64_t first, std::uint64_t count);

// Whether most of its rows are in the system's memory. False where they are read from the disk, and for those
// that are not contiguous.
bool rows_in_memory(const Tensor& mapped);

// What becomes of rows that are not wanted again.
enum class Release {
  unmap,  // they leave this process
  evict,  // and the system's memory
};
void release_rows(const Tensor& mapped, std::uint64_t first, std::uint64_t count, Release how);

}  // namespace personascope
