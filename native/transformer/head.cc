#include "native/transformer/head.h"

#include <algorithm>
#include <cstring>

#include "native/kernels/gemm/gemm.h"
#include "native/kernels/norm/norm.h"

namespace personascope {

std::size_t logit_chunk(const Transformer& model) {
  constexpr std::size_t kLogits = std::size_t{1} << 18;
  const std::size_t rows = kLogits / model.config.vocabulary;
  return std::clamp<std::size_t>(rows, model.small() ? 32 : 256, 1024);
}

void final_norm(const Transformer& model, Workspace& workspace, const float* x, const std::uint32_t* selected,
                std::size_t count) {
  const std::size_t d = model.config.width;
  float* gathered = workspace.gathered.need(count * d);
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(gathered + i * d, x + static_cast<std::size_t>(selected[i]) * d, d * sizeof(float));
  NormArgs norm;
  norm.kind = model.config.family == Family::gpt2 ? Norm::layer : Norm::rms;
  norm.rows = count;
  norm.width = d;
  norm.eps = model.config.norm_eps;
  norm.x = gathered;
  norm.gamma = model.parameter(model.layout.final_norm);
  norm.beta = model.optional(model.layout.final_norm_bias);
  norm.y = workspace.normed.need(count * d);
  norm.mean = norm.kind == Norm::layer ? workspace.mean.need(count) : nullptr;
  norm.rstd = workspace.rstd.need(count);
  norm_forward(norm);
}

void unembed(const Transformer& model, const float* normed, std::size_t count, float* logits) {
  GemmArgs args;
  args.m = count;
  args.n = args.ldc = model.config.vocabulary;
  args.k = args.lda = args.ldb = model.config.width;
  args.a = normed;
  args.packed_b = model.packed_unembedding();
  args.b = model.parameter(model.layout.unembedding);
  args.transpose_b = true;
  args.c = logits;
  gemm(args);
}

}  // namespace personascope
