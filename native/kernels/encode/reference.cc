// Encoding in plain C++: screening by canonical products, nothing blocked.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "native/core/half.h"
#include "native/kernels/encode/variants.h"

namespace personascope {

namespace {

float element(const RowView& weights, const std::uint8_t* row, std::size_t i) {
  if (i >= weights.width) return 0;
  if (weights.dtype == Dtype::f32) {
    float value;
    std::memcpy(&value, row + i * 4, 4);
    return value;
  }
  std::uint16_t bits;
  std::memcpy(&bits, row + i * 2, 2);
  return weights.dtype == Dtype::bf16 ? bf16_to_f32(bits) : f16_to_f32(bits);
}

double prepare(const float* x, const float* centre, std::size_t width, float* row) {
  double squares = 0;
  for (std::size_t i = 0; i < padded_width(width); ++i) {
    row[i] = i < width ? (centre ? x[i] - centre[i] : x[i]) : 0.0f;
    squares += static_cast<double>(row[i]) * row[i];
  }
  return squares;
}

void products(const PairsArgs& args) {
  for (std::size_t p = 0; p < args.count; ++p) {
    const std::uint8_t* w = args.weights->row(args.latents[p]);
    const float* x = args.rows + args.tokens[p] * args.padded;
    float sums[64] = {};
    for (std::size_t i = 0; i < args.padded; ++i)
      sums[i % 64] = std::fma(element(*args.weights, w, i), x[i], sums[i % 64]);
    for (std::size_t half = 32; half > 0; half /= 2)
      for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
    args.out[p] = sums[0];
  }
}

void widen(const RowView& weights, std::size_t row, float* out) {
  for (std::size_t i = 0; i < padded_width(weights.width); ++i)
    out[i] = element(weights, weights.row(row), i);
}

double dot(const float* a, const float* b, std::size_t padded) {
  double sum = 0;
  for (std::size_t i = 0; i < padded; ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

void rotate(float* row, std::size_t padded) {
  const std::size_t m = padded / 16;
  std::size_t block = m & (~m + 1);
  float scale = 1;
  for (std::size_t size = block; size > 1; size /= 4) scale *= size == 2 ? 0.70710678118654752f : 0.5f;
  for (std::size_t i = 0; i < padded; ++i) row[i] *= rotation_sign(i / 16) ? -scale : scale;
  for (; block > 1; block /= 2)
    for (std::size_t i = 0; i < padded; ++i) {
      if (i / 16 % block >= block / 2) continue;
      const float x = row[i], y = row[i + 16 * (block / 2)];
      row[i] = x + y;
      row[i + 16 * (block / 2)] = x - y;
    }
}

Quantised quantise(const float* row, std::size_t padded, std::int8_t* q) {
  float largest = 0;
  for (std::size_t i = 0; i < padded; ++i) largest = std::max(largest, std::fabs(row[i]));
  // A row too small to scale is all zeros: everything is error.
  const float scale = largest < 1e-30f ? 0.0f : largest / 127, inverse = scale > 0 ? 127 / largest : 0.0f;
  double squares = 0;
  for (std::size_t i = 0; i < padded; ++i) {
    const float whole = std::clamp(std::nearbyint(row[i] * inverse), -127.0f, 127.0f);
    q[i] = static_cast<std::int8_t>(whole);
    const double error = std::fma(-scale, whole, row[i]);
    squares += error * error;
  }
  return {scale, squares};
}

double round_bf16(const float* row, std::size_t padded, std::uint16_t* rounded) {
  double squares = 0;
  for (std::size_t i = 0; i < padded; ++i) {
    rounded[i] = f32_to_bf16(row[i]);
    const double error = row[i] - bf16_to_f32(rounded[i]);
    squares += error * error;
  }
  return squares;
}

std::size_t count_at_least(const float* values, std::size_t n, float bound) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < n; ++i) count += values[i] >= bound;
  return count;
}

constexpr std::size_t kGroup = 8;

std::size_t panel_bytes(std::size_t width) {
  return kGroup * width * sizeof(float);
}

void pack(const void* rows, std::size_t row_pitch, std::size_t tokens, std::size_t width, void* panel) {
  for (std::size_t t = 0; t < tokens; ++t)
    std::memcpy(static_cast<float*>(panel) + t * width, static_cast<const float*>(rows) + t * row_pitch,
                width * sizeof(float));
}

void screen(const ScreenArgs& args) {
  const Screen& screen = *args.screen;
  for (std::size_t l = args.begin; l < args.end; ++l) {
    const std::uint8_t* row = args.weights + (l - args.begin) * args.weights_stride;
    for (std::size_t t = 0; t < args.tokens; ++t) {
      const float* x = static_cast<const float*>(args.panel) + t * args.width;
      float sum = 0;
      for (std::size_t i = 0; i < args.width; ++i) {
        float w;
        std::memcpy(&w, row + i * 4, 4);
        sum = std::fma(w, x[i], sum);
      }
      const float value = std::fma(sum, screen.scale[l], screen.bias[l]);
      const float slack = std::fma(screen.slack_norm[l], args.norm[t], screen.slack_offset[l]);
      push_reference(args, t, l, value, slack);
    }
  }
}

}  // namespace

void push_reference(const ScreenArgs& args, std::size_t token, std::size_t latent, float value, float slack) {
  const float upper = value + slack;
  if (!(upper >= args.thresholds[token])) return;
  CandidateList& list = args.lists[token];
  if (list.count == args.capacity) {
    args.compact(args.context, token);
    if (!(upper >= args.thresholds[token])) return;
  }
  list.upper[list.count] = upper;
  list.lower[list.count] = value - slack;
  list.index[list.count++] = static_cast<std::uint32_t>(latent);
}

const EncodeKernels encode_reference = {prepare,    products,       widen,
                                        dot,        rotate,         quantise,
                                        round_bf16, count_at_least, {kGroup, 12, panel_bytes, pack, screen}};

}  // namespace personascope
