#include <cmath>
#include <string>

#include "native/core/check_finite.h"
#include "native/kernels/parallel.h"
#include "native/kernels/steer/variants.h"

namespace personascope {

const Variants<SteerKernel>& steer_variants() {
  static const Variants<SteerKernel> variants = {steer_reference, steer_avx2, steer_avx512};
  return variants;
}

void check_steer(const SteerArgs& args) {
  require(args.stride >= args.width && args.width > 0, ErrorCode::invalid_argument,
          "steer: rows shorter than the width " + std::to_string(args.width));
  require(args.groups >= 1 && args.dimensions >= 1 && args.dimensions <= kMostSteerDimensions,
          ErrorCode::invalid_argument,
          "steer: " + std::to_string(args.dimensions) + " vectors a group, expected 1 to " +
              std::to_string(kMostSteerDimensions));
  const std::size_t count = args.groups * args.dimensions;
  require(args.vectors && (args.kind != SteerKind::add || args.amounts) &&
              (args.kind != SteerKind::clamp || (args.low && args.high)),
          ErrorCode::invalid_argument, "steer: vectors, amounts or bounds are missing");
  check_finite("steer: vectors", args.vectors, count, args.width, args.width);
  if (args.centre) check_finite("steer: centre", args.centre, 1, args.width, args.width);
  if (args.kind == SteerKind::add) check_finite("steer: amounts", args.amounts, 1, count, count);
  if (args.kind == SteerKind::clamp) {
    for (std::size_t i = 0; i < count; ++i)  // infinite bounds are open ends
      require(args.low[i] <= args.high[i], ErrorCode::invalid_argument,
              "steer: clamp bounds " + std::to_string(args.low[i]) + " to " + std::to_string(args.high[i]) +
                  " of vector " + std::to_string(i));
  }
  if (args.group)
    for (std::size_t row = 0; row < args.rows; ++row)
      if (args.group[row] >= args.groups)
        fail(ErrorCode::invalid_argument, "steer: row " + std::to_string(row) + " is of group " +
                                              std::to_string(args.group[row]) + " of " +
                                              std::to_string(args.groups));
  if (args.kind == SteerKind::add) return;
  for (std::size_t group = 0; group < args.groups; ++group)
    for (std::size_t a = 0; a < args.dimensions; ++a)
      for (std::size_t b = 0; b <= a; ++b) {
        const float* left = args.vectors + (group * args.dimensions + a) * args.width;
        const float* right = args.vectors + (group * args.dimensions + b) * args.width;
        double product = 0;
        for (std::size_t i = 0; i < args.width; ++i) product += static_cast<double>(left[i]) * right[i];
        require(std::fabs(product - (a == b)) <= 1e-3, ErrorCode::invalid_argument,
                "steer: vectors " + std::to_string(b) + " and " + std::to_string(a) + " of group " +
                    std::to_string(group) + " have product " + std::to_string(product) + ", expected " +
                    (a == b ? "1 (unit length)" : "0 (orthogonal)"));
      }
}

void steer(const SteerArgs& args) {
  check_steer(args);
  const SteerKernel kernel = steer_variants().active();
  parallel_rows(args.rows, 2 * args.dimensions * args.width,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

}  // namespace personascope
