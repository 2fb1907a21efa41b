// The body of the vector variants of resampled sums: eight registers of them while all entries pass. The
// including file says what a register of doubles is: Doubles, kWidth, d_zero, d_set, d_load_counts, d_add,
// d_mul, d_store.

namespace personascope {
namespace {

void resample(const ResampleArgs& args) {
  constexpr std::size_t kVectors = 8;
  static_assert(kResampleBlock % (kVectors * kWidth) == 0);
  for (std::size_t r = 0; r < args.resamples; r += kVectors * kWidth) {
    Doubles sums[kVectors];
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) sums[v] = d_zero();
    for (std::size_t e = 0; e < args.entries; ++e) {
      const std::uint16_t* counts = args.counts[e] + r;
      const Doubles sum = d_set(args.sums[e]);
#pragma GCC unroll 8
      for (std::size_t v = 0; v < kVectors; ++v)
        sums[v] = d_add(sums[v], d_mul(d_load_counts(counts + v * kWidth), sum));
    }
#pragma GCC unroll 8
    for (std::size_t v = 0; v < kVectors; ++v) d_store(args.out + r + v * kWidth, sums[v]);
  }
}

}  // namespace
}  // namespace personascope
