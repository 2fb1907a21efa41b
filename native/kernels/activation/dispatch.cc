#include <string>

#include "native/kernels/activation/variants.h"
#include "native/kernels/parallel.h"

namespace personascope {

namespace {

constexpr std::size_t kCost = 8;  // element operations a value

void check_kind(Activation kind) {
  const int value = static_cast<int>(kind);
  if (value < 0 || value > static_cast<int>(Activation::silu))
    fail(ErrorCode::invalid_argument, "activation: unknown kind " + std::to_string(value));
}

}  // namespace

const Variants<ActivationKernels>& activation_variants() {
  static const Variants<ActivationKernels> variants = {activation_reference, activation_avx2,
                                                       activation_avx512};
  return variants;
}

void activation_forward(const ActivationArgs& args) {
  check_kind(args.kind);
  const auto kernel = activation_variants().active().forward;
  parallel_rows(args.rows, args.width * kCost,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

void activation_backward(const ActivationBackwardArgs& args) {
  check_kind(args.kind);
  const auto kernel = activation_variants().active().backward;
  parallel_rows(args.rows, args.width * kCost,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

void gated_forward(const GatedArgs& args) {
  check_kind(args.kind);
  const auto kernel = activation_variants().active().gated_forward;
  parallel_rows(args.rows, args.width * kCost,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

void gated_backward(const GatedBackwardArgs& args) {
  check_kind(args.kind);
  const auto kernel = activation_variants().active().gated_backward;
  parallel_rows(args.rows, args.width * kCost,
                [&](std::size_t begin, std::size_t end) { kernel(args, begin, end); });
}

}  // namespace personascope
