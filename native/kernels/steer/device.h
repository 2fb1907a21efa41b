// Steering of a tensor where it lies: on the host by the kernels of steer.h, on a GPU by the plugin's, which
// give the same bits.
#pragma once
#include "native/core/device_tensor.h"
#include "native/kernels/steer/steer.h"

namespace personascope {

// args say everything but x, rows, width and stride, which are the tensor's: F32, rows of any stride (see
// rows_of). Its last axis must be as long as `width`, that of the vectors. Errors as steer() has them.
void steer(const DeviceTensor& x, SteerArgs args);

}  // namespace personascope
