// The body of the ISA variants of steering. Rows pass once through memory: while one is read, the next that
// changes is prefetched, line for line.

namespace personascope {
namespace {

constexpr std::size_t kLineFloats = 16;

// The canonical product (x - centre) . v; touches `next` [width] on the way.
template <bool Centred>
inline float coefficient(const float* x, const float* centre, const float* v, std::size_t width,
                         const float* next) {
  Sum64 sums;
  std::size_t begin = 0;
  for (; begin + 64 <= width; begin += 64) {
#pragma GCC unroll 4
    for (std::size_t l = 0; l < 64; l += kLineFloats)
      _mm_prefetch(reinterpret_cast<const char*>(next + begin + l), _MM_HINT_T0);
#pragma GCC unroll 8
    for (std::size_t p = 0; p < Sum64::kParts; ++p) {
      const std::size_t i = begin + p * kLanes;
      const Vec value = Centred ? v_sub(v_load(x + i), v_load(centre + i)) : v_load(x + i);
      sums.part[p] = v_fma(value, v_load(v + i), sums.part[p]);
    }
  }
#pragma GCC unroll 8
  for (std::size_t p = 0; p < Sum64::kParts; ++p) {
    const std::size_t i = begin + p * kLanes;
    if (i >= width) break;
    const Mask some = v_first(width - i < kLanes ? width - i : kLanes);
    const Vec value = Centred ? v_sub(v_load(x + i, some), v_load(centre + i, some)) : v_load(x + i, some);
    sums.part[p] = v_fma(value, v_load(v + i, some), sums.part[p]);
  }
  return sums.total();
}

// x = from + sum_j change_j v_j, where `from` is x itself, the centre, or null for 0.
inline void move(float* x, const float* from, const float* vectors, const float* change,
                 std::size_t dimensions, std::size_t width, const float* next) {
  std::size_t i = 0;
  for (; i + 64 <= width; i += 64) {
#pragma GCC unroll 4
    for (std::size_t l = 0; l < 64; l += kLineFloats)
      _mm_prefetch(reinterpret_cast<const char*>(next + i + l), _MM_HINT_T0);
    Vec sums[64 / kLanes];
#pragma GCC unroll 8
    for (std::size_t p = 0; p < 64 / kLanes; ++p) sums[p] = from ? v_load(from + i + p * kLanes) : v_zero();
    for (std::size_t j = 0; j < dimensions; ++j) {
      const Vec by = v_set(change[j]);
      const float* v = vectors + j * width + i;
#pragma GCC unroll 8
      for (std::size_t p = 0; p < 64 / kLanes; ++p) sums[p] = v_fma(by, v_load(v + p * kLanes), sums[p]);
    }
#pragma GCC unroll 8
    for (std::size_t p = 0; p < 64 / kLanes; ++p) v_store(x + i + p * kLanes, sums[p]);
  }
  for (; i < width; i += kLanes) {
    const Mask some = v_first(width - i < kLanes ? width - i : kLanes);
    Vec sum = from ? v_load(from + i, some) : v_zero();
    for (std::size_t j = 0; j < dimensions; ++j)
      sum = v_fma(v_set(change[j]), v_load(vectors + j * width + i, some), sum);
    v_store(x + i, sum, some);
  }
}

// The change along v_at of a row whose coefficient is `along`.
inline float change_of(const SteerArgs& args, std::size_t at, float along) {
  if (args.kind == SteerKind::ablate) return -along;
  if (args.kind == SteerKind::project) return along;
  const float raised = along < args.low[at] ? args.low[at] : along;
  return (raised > args.high[at] ? args.high[at] : raised) - along;
}

void steer_rows(const SteerArgs& args, std::size_t begin, std::size_t end) {
  const std::size_t width = args.width, dimensions = args.dimensions;
  const auto wanted = [&](std::size_t row) {
    while (row < end && args.mask && !args.mask[row]) ++row;
    return row;
  };
  for (std::size_t row = wanted(begin), after; row < end; row = after) {
    after = wanted(row + 1);
    float* x = args.x + row * args.stride;
    const float* next = after < end ? args.x + after * args.stride : x;
    const std::size_t group = args.group ? args.group[row] : 0;
    const float* vectors = args.vectors + group * dimensions * width;
    const float* amounts;
    float changes[kMostSteerDimensions];
    if (args.kind == SteerKind::add) {
      amounts = args.amounts + group * dimensions;
    } else {
      for (std::size_t j = 0; j < dimensions; ++j) {
        const float* v = vectors + j * width;
        const float along = args.centre ? coefficient<true>(x, args.centre, v, width, next)
                                        : coefficient<false>(x, nullptr, v, width, next);
        changes[j] = change_of(args, group * dimensions + j, along);
        next = x;  // fetched by now
      }
      amounts = changes;
    }
    move(x, args.kind == SteerKind::project ? args.centre : x, vectors, amounts, dimensions, width, next);
  }
}

}  // namespace
}  // namespace personascope
