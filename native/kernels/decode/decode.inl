// The body of the ISA variants of decoding: four vectors of the output are kept in registers while all codes
// of the token pass.

namespace personascope {
namespace {

using namespace vec;

template <int Vectors>
inline void decode_part(const DecodeArgs& args, std::size_t t, std::size_t at, std::size_t last) {
  float* out = args.out + t * args.out_stride + at;
  const float* bias = args.bias ? args.bias + at : nullptr;
  F sums[Vectors];
  // Only the last vector of a row may be partial (`last` values).
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) {
    const std::size_t n = v + 1 == Vectors ? last : kLanes, o = static_cast<std::size_t>(v) * kLanes;
    const F start = bias ? load_n(bias + o, n) : zero();
    sums[v] = args.accumulate ? add(load_n(out + o, n), start) : start;
  }
  const std::size_t first = args.codes.begin(t), count = args.codes.count(t);
  for (std::size_t c = first; c < first + count; ++c) {
    const float* row = args.weights + args.codes.indices[c] * args.stride + at;
    const F value = set1(args.codes.values[c]);
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      const std::size_t o = static_cast<std::size_t>(v) * kLanes;
      sums[v] = fmadd(value, v + 1 == Vectors ? load_n(row + o, last) : load(row + o), sums[v]);
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v)
    store_n(out + static_cast<std::size_t>(v) * kLanes, sums[v], v + 1 == Vectors ? last : kLanes);
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
