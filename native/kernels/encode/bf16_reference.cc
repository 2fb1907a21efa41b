// Screening in bf16 in plain C++: widened to fp32, where products are exact.
#include <cmath>
#include <cstring>

#include "native/core/half.h"
#include "native/kernels/encode/bf16_variants.h"
#include "native/kernels/encode/variants.h"

namespace personascope {

namespace {

constexpr std::size_t kGroup = 8;

std::size_t panel_bytes(std::size_t width) {
  return kGroup * width * sizeof(std::uint16_t);
}

void pack(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width, void* panel) {
  for (std::size_t t = 0; t < tokens; ++t)
    std::memcpy(static_cast<std::uint16_t*>(panel) + t * width,
                static_cast<const std::uint16_t*>(rows) + t * row_pitch, width * sizeof(std::uint16_t));
}

void screen(const ScreenArgs& args) {
  const Screen& screen = *args.screen;
  for (std::size_t l = args.begin; l < args.end; ++l) {
    const std::uint8_t* row = args.weights + (l - args.begin) * args.weights_stride;
    for (std::size_t t = 0; t < args.tokens; ++t) {
      const std::uint16_t* x = static_cast<const std::uint16_t*>(args.panel) + t * args.width;
      float sum = 0;
      for (std::size_t i = 0; i < args.width; ++i) {
        std::uint16_t w;
        std::memcpy(&w, row + i * 2, 2);
        sum = std::fma(bf16_to_f32(w), bf16_to_f32(x[i]), sum);
      }
      const float value = std::fma(sum, screen.scale[l], screen.bias[l]);
      const float slack = std::fma(screen.slack_norm[l], args.norm[t],
                                   std::fma(screen.slack_error[l], args.error[t], screen.slack_offset[l]));
      push_reference(args, t, l, value, slack);
    }
  }
}

}  // namespace

const ScreenKernels bf16_reference = {kGroup, 12, panel_bytes, pack, screen};

}  // namespace personascope
