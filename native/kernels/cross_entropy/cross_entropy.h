// Cross-entropy of logits against one target a row, with its gradient.
//
//   loss[r]       = log sum_j exp(logits[r, j]) - logits[r, target[r]]        (= -log p(target), unweighted)
//   dlogits[r, j] = weight[r] * (softmax(logits[r])_j - [j = target[r]])
//
// Weights may be negative (policy gradients) or zero: rows of weight zero are skipped: loss 0, gradient 0,
// their target and logits not looked at.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/isa.h"

namespace personascope {

struct CrossEntropyArgs {
  std::size_t rows = 0, vocabulary = 0;
  const float* logits = nullptr;  // [rows, vocabulary]
  std::size_t logits_stride = 0;
  const std::int32_t* targets = nullptr;  // [rows], in [0, vocabulary) where the weight is not 0
  const float* weights = nullptr;         // [rows] or null: 1
  float* losses = nullptr;                // [rows] or null
  float* dlogits = nullptr;               // [rows, vocabulary] or null; may be logits
  std::size_t dlogits_stride = 0;
  // Log-sum-exp of each row (0 where skipped), to get other tokens' log-probabilities cheaply; or null.
  float* lse = nullptr;  // [rows]
};
void cross_entropy(const CrossEntropyArgs& args);

// sum of weights[r] * losses[r] (weights null: 1) in fp64, in order of r.
double weighted_sum(std::size_t rows, const float* losses, const float* weights);

// The variants work on rows [begin, end).
using CrossEntropyFn = void (*)(const CrossEntropyArgs&, std::size_t begin, std::size_t end);
const Variants<CrossEntropyFn>& cross_entropy_variants();

}  // namespace personascope
