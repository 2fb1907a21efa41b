// Changes of the residual stream at a hook while the model runs (steering), and how gradients pass through
// them.
//
//   add      x += amount v
//   ablate   x -= ((x - c) . v) v
//   clamp    x -= ((x - c) . v) v - amount v
//   project  x  = c + ((x - c) . v) v
//
// v is of unit length except for `add`, where any vector may be given; c is the centre, or 0. Several
// interventions at one hook act in the order of the list.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "native/transformer/config.h"

namespace personascope {

enum class HookPoint : int { pre = 0, mid = 1, post = 2 };

struct Hook {
  HookPoint point = HookPoint::post;
  std::size_t layer = 0;
  // Height in the network: 2 layer + point. resid_post of a layer and resid_pre of the next are the same
  // place.
  std::size_t height() const { return 2 * layer + static_cast<std::size_t>(point); }
};

enum class SteerOperation : int { add = 0, ablate = 1, clamp = 2, project = 3 };

enum class SteeredTokens : int { all = 0, after_first = 1, prompt = 2, answer = 3, masked = 4 };

struct Intervention {
  Hook hook;
  SteerOperation operation = SteerOperation::add;
  SteeredTokens tokens = SteeredTokens::all;
  const float* vectors = nullptr;  // [d], or [sequences, d] if per_sequence
  bool per_sequence = false;
  float amount = 0;                    // used where `amounts` is null
  const float* amounts = nullptr;      // [sequences], for per-sequence vectors, or null
  const float* centre = nullptr;       // [d] or null
  const std::uint8_t* mask = nullptr;  // [rows of the batch], for SteeredTokens::masked
};

// Throws invalid_argument unless hook, vectors and amounts make sense for the model.
void check_interventions(const std::vector<Intervention>& interventions, const TransformerConfig& config,
                         std::size_t sequences);

// The rows that a pass works on.
struct RowMap {
  std::size_t rows = 0;
  const std::uint32_t* sequence = nullptr;  // [rows], index into per-sequence vectors and amounts
  std::size_t sequences = 0;                // those there are: every index is below
  const std::int32_t* position = nullptr;   // [rows], place in the sequence
  const std::uint8_t* in_prompt = nullptr;  // [rows]
  std::size_t first_row = 0;                // of the batch, for masks
};

// Applies those of `hook` to x [rows, d]. Height and point must both agree: resid_post.l acts before
// resid_pre.l+1.
void intervene(const std::vector<Intervention>& interventions, Hook hook, const RowMap& map,
               std::size_t width, float* x);

// dx [rows, d] with respect to the changed stream becomes that with respect to the stream before the change.
void intervene_backward(const std::vector<Intervention>& interventions, Hook hook, const RowMap& map,
                        std::size_t width, float* dx);

}  // namespace personascope
