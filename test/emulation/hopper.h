// Hopper's part of the machine: bulk copies, barriers in shared memory, products of warp groups.
#pragma once

namespace emulation {

// cuTensorMapEncodeTiled.
void* tensor_map_encoder();
// Ends one of the bulk copies under way; false: there is none.
bool finish_pending();

}  // namespace emulation
