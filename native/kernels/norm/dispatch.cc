#include <algorithm>
#include <vector>

#include "native/kernels/norm/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

namespace {

constexpr std::size_t kCost = 4;        // element operations a value
constexpr std::size_t kMaxBlocks = 64;  // partial sums of dgamma and dbeta

}  // namespace

const Variants<NormKernels>& norm_variants() {
  static const Variants<NormKernels> variants = {norm_reference, norm_avx2, norm_avx512};
  return variants;
}

void norm_forward(const NormArgs& args) {
  if (args.residual && !args.sum) fail(ErrorCode::invalid_argument, "norm: a residual needs the array `sum`");
  const auto kernel = norm_variants().active().forward;
  parallel_rows(args.rows, args.width * kCost,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

void norm_backward(const NormBackwardArgs& args) {
  if (!args.rstd || (args.kind == Norm::layer && !args.mean))
    fail(ErrorCode::invalid_argument, "norm: the backward pass needs the statistics of the forward pass");
  if (args.accumulate_dx && args.dx == args.dy)
    fail(ErrorCode::invalid_argument, "norm: accumulate_dx with dx = dy");
  const auto kernel = norm_variants().active().backward;
  // The number of blocks depends on the rows alone, and blocks are added in order.
  const std::size_t block = std::max<std::size_t>(32, (args.rows + kMaxBlocks - 1) / kMaxBlocks);
  const std::size_t blocks = (args.rows + block - 1) / block, width = args.width;
  std::vector<float> partial(2 * blocks * width);
  parallel_rows(blocks, block * width * kCost, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      float* sums = partial.data() + 2 * i * width;
      kernel(args, i * block, std::min(args.rows, (i + 1) * block), args.dgamma ? sums : nullptr,
             args.dbeta ? sums + width : nullptr);
    }
  });
  for (std::size_t i = 0; i < blocks; ++i)
    for (std::size_t j = 0; j < width; ++j) {
      if (args.dgamma) args.dgamma[j] += partial[2 * i * width + j];
      if (args.dbeta) args.dbeta[j] += partial[(2 * i + 1) * width + j];
    }
}

}  // namespace personascope
