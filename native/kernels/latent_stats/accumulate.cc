#include "native/kernels/latent_stats/accumulate.h"

#include <algorithm>

namespace personascope {

const Variants<AccumulateKernel>& accumulate_variants() {
  static const Variants<AccumulateKernel> variants = {accumulate_reference, accumulate_avx2,
                                                      accumulate_avx512};
  return variants;
}

void accumulate_reference(const AccumulateArgs& args) {
  // A digit of term 2^shift.
  const auto digit = [](std::uint64_t term, unsigned shift, unsigned number) {
    const unsigned begin = number * LatentRecord::kDigit;
    const std::uint64_t placed = shift >= begin       ? shift - begin < 64 ? term << (shift - begin) : 0
                                 : begin - shift < 64 ? term >> (begin - shift)
                                                      : 0;
    return placed & ((std::uint64_t{1} << LatentRecord::kDigit) - 1);
  };
  for (std::size_t i = 0; i < args.count; ++i) {
    if (i + kRecordsAhead < args.count) __builtin_prefetch(args.records + args.latents[i + kRecordsAhead], 1);
    LatentRecord& record = args.records[args.latents[i]];
    const FloatParts parts(args.values[i]);
    const auto shift = static_cast<unsigned>(parts.exponent - LatentTotals::kSumUnit);
    const std::uint64_t square = static_cast<std::uint64_t>(parts.mantissa) * parts.mantissa;
    for (unsigned d = 0; d < LatentRecord::kSumDigits; ++d) record.sum[d] += digit(parts.mantissa, shift, d);
    for (unsigned d = 0; d < LatentRecord::kSquaresDigits; ++d)
      record.squares[d] += digit(square, 2 * shift, d);
    ++record.active;
    record.max = std::max(record.max, args.values[i]);
  }
}

}  // namespace personascope
