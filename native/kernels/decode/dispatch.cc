#include <string>

#include "native/core/error.h"
#include "native/kernels/decode/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

const Variants<DecodeKernel>& decode_variants() {
  static const Variants<DecodeKernel> variants = {decode_reference, decode_avx2, decode_avx512};
  return variants;
}

void decode(const DecodeArgs& args) {
  require(args.stride >= args.width && args.out_stride >= args.width, ErrorCode::invalid_argument,
          "decode: rows shorter than the width " + std::to_string(args.width));
  require(args.dtype == Dtype::f32 || args.dtype == Dtype::bf16 || args.dtype == Dtype::f16,
          ErrorCode::invalid_argument,
          std::string("decode: rows of ") + dtype_name(args.dtype) + ", expected F32, BF16 or F16");
  std::size_t codes = 0;
  for (std::size_t t = 0; t < args.codes.tokens; ++t) {
    const std::size_t first = args.codes.begin(t), count = args.codes.count(t);
    codes += count;
    for (std::size_t c = first; c < first + count; ++c)
      if (args.codes.indices[c] >= args.latents)
        fail(ErrorCode::invalid_argument, "decode: token " + std::to_string(t) + " has latent " +
                                              std::to_string(args.codes.indices[c]) + ", the decoder has " +
                                              std::to_string(args.latents));
  }
  if (args.codes.tokens == 0) return;
  const DecodeKernel kernel = decode_variants().active();
  const std::size_t cost = (codes / args.codes.tokens + 1) * args.width;
  parallel_rows(args.codes.tokens, cost,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

}  // namespace personascope
