// How a latent's canonical product p becomes a code. Codes are always > 0.
//
// With h = p + bias and, where there is a scale, g = h * scale (else g = h):
//   topk      the k largest g > 0, ties by lower latent
//   groupmax  latents lie in k contiguous groups of equal size: the largest g > 0 of each, ties likewise
//   threshold every g > 0 with g > threshold
//   gated     every p with p + gate_bias > 0 and p * magnitude_scale + magnitude_bias > 0
// The value is g where scaled_codes, the magnitude where gated, else h. Each operation is one fp32 rounding.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/host_device.h"

namespace personascope {

enum class SelectionRule : int { topk = 0, threshold = 1, gated = 2, groupmax = 3 };

// Arrays are [latents], the caller's.
struct Selection {
  SelectionRule rule = SelectionRule::topk;
  const float* scale = nullptr;  // >= 0; not with gated
  bool scaled_codes = false;
  const float* threshold = nullptr;
  const float* gate_bias = nullptr;
  const float* magnitude_scale = nullptr;
  const float* magnitude_bias = nullptr;

  bool bounded() const { return rule == SelectionRule::topk || rule == SelectionRule::groupmax; }
};

// A latent is a code when score > 0; among them the larger score is chosen.
struct Scored {
  float score = 0, value = 0;
};

PERSONASCOPE_HOST_DEVICE inline Scored score_of(const Selection& selection, const float* bias,
                                                std::size_t latent, float product) {
  if (selection.rule == SelectionRule::gated) {
    const float scaled = product * selection.magnitude_scale[latent];
    const float magnitude = scaled + selection.magnitude_bias[latent];
    const bool open = product + selection.gate_bias[latent] > 0 && magnitude > 0;
    return open ? Scored{magnitude, magnitude} : Scored{0, 0};
  }
  const float h = product + bias[latent];
  const float g = selection.scale ? h * selection.scale[latent] : h;
  const float value = selection.scaled_codes ? g : h;
  if (selection.rule == SelectionRule::threshold && !(g > selection.threshold[latent])) return {0, 0};
  return {g, value};
}

}  // namespace personascope
