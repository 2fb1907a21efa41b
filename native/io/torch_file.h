// torch's .pt files (torch.save since 1.6: a zip archive of <name>/data.pkl, a pickle, and <name>/data/<key>,
// the bytes of one storage each).
#pragma once
#include <memory>
#include <vector>

#include "native/core/mapped_file.h"
#include "native/io/tensor_file.h"
#include "native/io/zip.h"

namespace personascope {

// The archive holds a pickle, as .pt files do.
bool looks_like_torch(const std::vector<ZipEntry>& entries);

// Adds the tensors and scalars of the archive `file.entries` to `file`. Tensors are views with the strides
// that were saved. Every global but those that make tensors is refused by name (see native/io/pickle.h).
void read_torch_file(TensorFile& file);

}  // namespace personascope
