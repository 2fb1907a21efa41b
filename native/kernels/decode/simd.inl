// The body of the ISA variants of decoding: four vectors of the output are kept in registers while all codes
// of the token pass.

namespace personascope {
namespace {

template <int Vectors>
inline void decode_part(const DecodeArgs& args, std::size_t t, std::size_t at, std::size_t last) {
  float* out = args.out + t * args.out_stride + at;
  const float* bias = args.bias ? args.bias + at : nullptr;
  Vec sums[Vectors];
  // Only the last vector of a row may be partial (`last` values).
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    const std::size_t n = v + 1 == Vectors ? last : kLanes, o = static_cast<std::size_t>(v) * kLanes;
    const Vec start = bias ? v_load(bias + o, v_first(n)) : v_zero();
    sums[v] = args.accumulate ? v_add(v_load(out + o, v_first(n)), start) : start;
  }
  const std::size_t first = args.codes.begin(t), count = args.codes.count(t);
  for (std::size_t c = first; c < first + count; ++c) {
    const float* row = args.weights + args.codes.indices[c] * args.stride + at;
    const Vec value = v_set(args.codes.values[c]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const std::size_t o = static_cast<std::size_t>(v) * kLanes;
      sums[v] = v_fma(value, v + 1 == Vectors ? v_load(row + o, v_first(last)) : v_load(row + o), sums[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v)
    v_store(out + static_cast<std::size_t>(v) * kLanes, sums[v], v_first(v + 1 == Vectors ? last : kLanes));
}

void decode_rows(const DecodeArgs& args, std::size_t begin, std::size_t end) {
  for (std::size_t t = begin; t < end; ++t) {
    std::size_t at = 0;
    for (; at + 4 * kLanes <= args.width; at += 4 * kLanes) decode_part<4>(args, t, at, kLanes);
    const std::size_t left = args.width - at;
    if (left > 3 * kLanes)
      decode_part<4>(args, t, at, left - 3 * kLanes);
    else if (left > 2 * kLanes)
      decode_part<3>(args, t, at, left - 2 * kLanes);
    else if (left > kLanes)
      decode_part<2>(args, t, at, left - kLanes);
    else if (left > 0)
      decode_part<1>(args, t, at, left);
  }
}

}  // namespace
}  // namespace personascope
