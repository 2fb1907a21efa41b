// Some tokens made ready for screening.
#pragma once
#include <cstddef>
#include <cstdint>

#include "native/core/aligned.h"
#include "native/kernels/encode/screen.h"

namespace personascope {

// Buffers grow and are kept for the next block.
struct Block {
  std::size_t first = 0, tokens = 0, panels = 0, padded = 0, group = 0;
  AlignedBuffer<float> rows;                // x' [tokens, padded]
  AlignedBuffer<float> scale, norm, error;  // [panels * group]: ScreenArgs' token_scale, norm, error

  // Tokens [begin, begin + count) of args.x. Throws non_finite (token named) where products could overflow.
  void load(const EncodeKernels& kernels, const ScreenKernels& screening, const EncodeArgs& args,
            std::size_t begin, std::size_t count);
  const void* panel(std::size_t p) const { return panel_.data() + p * panel_pitch_; }

 private:
  std::size_t panel_pitch_ = 0;
  AlignedBuffer<std::uint8_t> panel_;
  AlignedBuffer<float> centred_;
  AlignedBuffer<std::uint8_t> rounded_;  // of one panel's tokens
};

}  // namespace personascope
