#include "native/kernels/steer/device.h"

#include <string>

#include "native/core/error.h"

namespace personascope {

void steer(const DeviceTensor& x, SteerArgs args) {
  require(x.dtype == Dtype::f32, ErrorCode::invalid_argument,
          std::string("steer: activations are ") + dtype_name(x.dtype) + ", expected F32");
  const TensorRows rows = rows_of(x, "steer: activations");
  require(rows.width == args.width, ErrorCode::invalid_argument,
          "steer: activations are of width " + std::to_string(rows.width) + ", the vectors of " +
              std::to_string(args.width));
  args.x = static_cast<float*>(x.data);
  args.rows = rows.rows;
  args.stride = rows.stride;
  if (!x.device.cuda) return steer(args);
  check_steer(args);
  DeviceSteerArgs given = {};
  given.device = x.device.index;
  given.kind = static_cast<std::int32_t>(args.kind);
  given.x = args.x;
  given.rows = args.rows;
  given.width = args.width;
  given.stride = args.stride;
  given.mask = args.mask;
  given.group = args.group;
  given.groups = args.groups;
  given.dimensions = args.dimensions;
  given.vectors = args.vectors;
  given.amounts = args.amounts;
  given.low = args.low;
  given.high = args.high;
  given.centre = args.centre;
  const DevicePlugin& plugin = plugin_of(x.device);
  check_device(plugin, plugin.steer(&given));
}

}  // namespace personascope
