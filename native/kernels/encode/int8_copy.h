// The int8 copy of an encoder: rows, rotated (EncodeKernels::rotate), rounded to whole multiples of a scale
// each and laid out for screening. `width` is the padded one.
//
// Panels of 32 latents follow each other; within one, for every four dimensions, four bytes of each latent in
// turn: [panel][width4 / 4][32][4], width4 = the width rounded up to a multiple of 4. A byte holds q + 128,
// -127 <= q <= 127: the instruction for int8 products takes one operand without a sign. Places without a
// weight hold 128.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "native/core/aligned.h"

namespace personascope {

constexpr std::size_t kPanelLatents = 32;
// Products of wider rows could exceed 32 bits.
constexpr std::size_t kMostInt8Width = 65536;

class Int8Copy {
 public:
  // Room for the copy, or the caller's (kept by `owner`); write() fills it.
  Int8Copy(std::size_t latents, std::size_t width, std::shared_ptr<void> owner = nullptr,
           std::uint8_t* panels = nullptr);

  std::size_t latents = 0, width = 0;
  AlignedBuffer<float> scale;     // [latents]
  AlignedBuffer<float> norm;      // [latents], |w|
  AlignedBuffer<float> residual;  // [latents], of the rotated row: |w - w^|, rounded up

  // Rows [begin, end), begin a multiple of 32, from q [end - begin, pitch]; pieces may be written side by
  // side.
  void write(std::size_t begin, std::size_t end, const std::int8_t* q, std::size_t pitch);

  const std::uint8_t* panels() const { return panels_; }
  const std::uint8_t* panel_of(std::size_t latent) const {
    return panels_ + latent / kPanelLatents * panel_bytes(width);
  }
  std::size_t bytes() const { return bytes(latents, width); }  // of the panels

  static std::size_t width4(std::size_t width) { return (width + 3) / 4 * 4; }
  static std::size_t panel_bytes(std::size_t width) { return kPanelLatents * width4(width); }
  static std::size_t bytes(std::size_t latents, std::size_t width) {
    return (latents + kPanelLatents - 1) / kPanelLatents * panel_bytes(width);
  }

 private:
  std::uint8_t* panels_ = nullptr;
  std::shared_ptr<void> owner_;
};

}  // namespace personascope
