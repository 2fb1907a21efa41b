// From the residual stream to logits, log-probabilities and the loss. Only the rows that are asked for go
// through the unembedding, a chunk at a time: no array tokens x vocabulary is formed.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/transformer/model.h"
#include "native/transformer/workspace.h"

namespace personascope {

// Rows of logits made at once.
std::size_t logit_chunk(const Transformer& model);

// normed [count, d] = final norm of rows `selected` of x; saves what the backward pass needs.
void final_norm(const Transformer& model, Workspace& workspace, const float* x, const std::uint32_t* selected,
                std::size_t count);

// logits [count, vocabulary] of normed rows [count, d].
void unembed(const Transformer& model, const float* normed, std::size_t count, float* logits);

}  // namespace personascope
