// The body of the ISA variants of steering.

namespace personascope {
namespace {

inline float coefficient(const float* x, const float* centre, const float* v, std::size_t width) {
  Sum64 sums;
  for (std::size_t begin = 0; begin < width; begin += 64)
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Sum64::kParts; ++p) {
      const std::size_t i = begin + p * kLanes;
      if (i >= width) break;
      const std::size_t n = width - i < kLanes ? width - i : kLanes;
      const Vec value = centre ? v_sub(v_load(x + i, v_first(n)), v_load(centre + i, v_first(n)))
                               : v_load(x + i, v_first(n));
      sums.part[p] = v_fma(value, v_load(v + i, v_first(n)), sums.part[p]);
    }
  return sums.total();
}

void steer_rows(const SteerArgs& args, std::size_t begin, std::size_t end) {
  for (std::size_t row = begin; row < end; ++row) {
    if (args.mask && !args.mask[row]) continue;
    float* x = args.x + row * args.stride;
    const std::size_t group = args.group ? args.group[row] : 0;
    const float* vectors = args.vectors + group * args.dimensions * args.width;
    float change[kMostSteerDimensions];
    for (std::size_t j = 0; j < args.dimensions; ++j) {
      const std::size_t at = group * args.dimensions + j;
      if (args.kind == SteerKind::add) {
        change[j] = args.amounts[at];
        continue;
      }
      const float along = coefficient(x, args.centre, vectors + j * args.width, args.width);
      if (args.kind == SteerKind::clamp) {
        const float raised = along < args.low[at] ? args.low[at] : along;
        change[j] = (raised > args.high[at] ? args.high[at] : raised) - along;
      } else {
        change[j] = args.kind == SteerKind::ablate ? -along : along;
      }
    }
    for (std::size_t i = 0; i < args.width; i += kLanes) {
      const std::size_t n = args.width - i < kLanes ? args.width - i : kLanes;
      Vec value = args.kind != SteerKind::project ? v_load(x + i, v_first(n))
                  : args.centre                   ? v_load(args.centre + i, v_first(n))
                                                  : v_zero();
      for (std::size_t j = 0; j < args.dimensions; ++j)
        value = v_fma(v_set(change[j]), v_load(vectors + j * args.width + i, v_first(n)), value);
      v_store(x + i, value, v_first(n));
    }
  }
}

}  // namespace
}  // namespace personascope
