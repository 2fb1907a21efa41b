#include "native/kernels/encode/block.h"

#include <algorithm>
#include <cmath>
#include <string>

namespace personascope {

namespace {

constexpr double kLargest = 1e38;  // |w| |x'| + |b| below this: no sum can overflow fp32
constexpr double kUnit = 0x1p-24;
constexpr double kUp = 1.00001;

template <class T>
void grow(AlignedBuffer<T>& buffer, std::size_t size) {
  if (buffer.size() < size) buffer = AlignedBuffer<T>(size);
}

}  // namespace

void Block::load(const EncodeKernels& kernels, const ScreenKernels& screening, const EncodeArgs& args,
                 std::size_t begin, std::size_t count) {
  const EncoderWeights& encoder = *args.encoder;
  const Screen& screen = *args.screen;
  const std::size_t width = encoder.width;
  padded = padded_width(width);
  const std::size_t screened = screen.precision == Precision::int8 ? padded : width;  // rotated: all of it
  group = screening.group;
  first = begin;
  tokens = count;
  panels = (count + group - 1) / group;
  panel_pitch_ = (screening.panel_bytes(screened) + 63) / 64 * 64;
  grow(rows, panels * group * padded);
  grow(panel_, panels * panel_pitch_);
  for (AlignedBuffer<float>* values : {&scale, &norm, &error}) grow(*values, panels * group);
  const bool direct = screen.precision == Precision::fp32;
  const std::size_t element = screen.precision == Precision::int8 ? 1 : 2;
  if (!direct) {
    grow(centred_, padded);
    grow(rounded_, group * padded * element);
  }
  const float* mean = screen.mean.size() ? screen.mean.data() : nullptr;
  // Of the canonical product and of subtracting the mean (see make_screen).
  const double roundings = (static_cast<double>(width) / 64 + 24) * kUnit;
  for (std::size_t p = 0; p < panels; ++p) {
    const std::size_t here = std::min(group, tokens - p * group);
    for (std::size_t i = 0; i < here; ++i) {
      const std::size_t t = p * group + i;
      float* row = rows.data() + t * padded;
      const double length =
          std::sqrt(kernels.prepare(args.x + (first + t) * args.x_stride, encoder.centre, width, row));
      if (!(screen.largest_norm * length + screen.largest_bias <= kLargest))
        fail(ErrorCode::non_finite, "activations: token " + std::to_string(args.first_token + first + t) +
                                        " has length " + std::to_string(length) +
                                        "; its products with encoder rows of length up to " +
                                        std::to_string(screen.largest_norm) + " overflow fp32");
      scale[t] = 1;
      error[t] = 0;
      norm[t] = static_cast<float>(length * kUp);
      if (direct) continue;
      double centred = kernels.prepare(row, mean, width, centred_.data()), squared_error = 0;
      centred = std::sqrt(centred);
      if (screen.precision == Precision::int8) {
        kernels.rotate(centred_.data(), padded);
        const Quantised q = kernels.quantise(centred_.data(), padded,
                                             reinterpret_cast<std::int8_t*>(rounded_.data()) + i * padded);
        scale[t] = q.scale;
        squared_error = q.squared_error;
      } else {
        squared_error = kernels.round_bf16(centred_.data(), padded,
                                           reinterpret_cast<std::uint16_t*>(rounded_.data()) + i * padded);
      }
      norm[t] = static_cast<float>(centred * kUp);
      error[t] = static_cast<float>((std::sqrt(squared_error) + roundings * (length + centred)) * kUp);
    }
    const void* source =
        direct ? static_cast<const void*>(rows.data() + p * group * padded) : rounded_.data();
    screening.pack(source, padded, here, screened, panel_.data() + p * panel_pitch_);
  }
}

}  // namespace personascope
