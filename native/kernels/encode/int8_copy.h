// The int8 copy of an encoder: rows rounded to whole multiples of a scale each, laid out for screening.
//
// Panels of 32 latents follow each other; within one, for every four dimensions, four bytes of each latent in
// turn: [panel][width4 / 4][32][4], width4 = the width rounded up to a multiple of 4. A byte holds q + 128,
// -127 <= q <= 127: the instruction for int8 products takes one operand without a sign.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "native/core/aligned.h"

namespace personascope {

constexpr std::size_t kPanelLatents = 32;
// Products of wider rows could exceed 32 bits.
constexpr std::size_t kMostInt8Width = 65536;

struct Int8Copy {
  std::size_t latents = 0, width = 0;
  const std::uint8_t* panels = nullptr;
  AlignedBuffer<float> scale;     // [latents]
  AlignedBuffer<float> residual;  // [latents], |w - w^|, rounded up
  AlignedBuffer<float> norm;      // [latents], |w|, rounded up
  std::shared_ptr<const void> owner;

  static std::size_t width4(std::size_t width) { return (width + 3) / 4 * 4; }
  static std::size_t panel_bytes(std::size_t width) { return kPanelLatents * width4(width); }
  static std::size_t bytes(std::size_t latents, std::size_t width) {
    return (latents + kPanelLatents - 1) / kPanelLatents * panel_bytes(width);
  }
  const std::uint8_t* panel_of(std::size_t latent) const {
    return panels + latent / kPanelLatents * panel_bytes(width);
  }
};

}  // namespace personascope
