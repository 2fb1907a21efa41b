#include <string>

#include "native/kernels/cross_entropy/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

const Variants<CrossEntropyFn>& cross_entropy_variants() {
  static const Variants<CrossEntropyFn> variants = {cross_entropy_reference, cross_entropy_avx2,
                                                    cross_entropy_avx512};
  return variants;
}

void cross_entropy(const CrossEntropyArgs& args) {
  if (args.vocabulary == 0) fail(ErrorCode::invalid_argument, "cross-entropy: the vocabulary is empty");
  for (std::size_t r = 0; r < args.rows; ++r) {
    if (args.weights && args.weights[r] == 0) continue;
    if (args.targets[r] < 0 || static_cast<std::size_t>(args.targets[r]) >= args.vocabulary)
      fail(ErrorCode::invalid_argument, "cross-entropy: target " + std::to_string(args.targets[r]) +
                                            " of row " + std::to_string(r) + ", expected 0 to " +
                                            std::to_string(args.vocabulary - 1));
  }
  const CrossEntropyFn kernel = cross_entropy_variants().active();
  parallel_rows(args.rows, args.vocabulary * 6,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

double weighted_sum(std::size_t rows, const float* losses, const float* weights) {
  double sum = 0;
  for (std::size_t r = 0; r < rows; ++r)
    sum += static_cast<double>(losses[r]) * (weights ? weights[r] : 1.0f);
  return sum;
}

}  // namespace personascope
