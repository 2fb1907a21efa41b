// Screening in int8 in plain C++.
#include <cmath>

#include "native/kernels/encode/int8_copy.h"
#include "native/kernels/encode/int8_variants.h"
#include "native/kernels/encode/variants.h"

namespace personascope {

namespace {

constexpr std::size_t kGroup = 4;

std::size_t panel_bytes(std::size_t width) {
  return kGroup * width;
}

void pack(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width, void* panel) {
  for (std::size_t t = 0; t < tokens; ++t)
    for (std::size_t i = 0; i < width; ++i)
      static_cast<std::int8_t*>(panel)[t * width + i] =
          static_cast<const std::int8_t*>(rows)[t * row_pitch + i];
}

void screen(const ScreenArgs& args) {
  const Screen& screen = *args.screen;
  for (std::size_t l = args.begin; l < args.end; ++l) {
    const std::uint8_t* w = args.weights + l % kPanelLatents * 4;
    for (std::size_t t = 0; t < args.tokens; ++t) {
      const std::int8_t* x = static_cast<const std::int8_t*>(args.panel) + t * args.width;
      std::int32_t sum = 0;
      for (std::size_t i = 0; i < args.width; ++i) sum += (w[i / 4 * 4 * kPanelLatents + i % 4] - 128) * x[i];
      const float scaled = static_cast<float>(sum) * screen.scale[l];
      const float value = std::fma(scaled, args.token_scale[t], screen.bias[l]);
      const float slack = std::fma(screen.slack_norm[l], args.norm[t],
                                   std::fma(screen.slack_error[l], args.error[t], screen.slack_offset[l]));
      push_reference(args, t, l, value, slack);
    }
  }
}

}  // namespace

const ScreenKernels int8_reference = {kGroup, kPanelLatents, panel_bytes, pack, screen};

}  // namespace personascope
