// Rigorous bounds of screened products; the derivation is that of native/kernels/encode/screen.h, with the
// roundings of tensor cores. What is screened is the quantity that selection compares:
//
//   value = product * token.scale * latent.scale + latent.bias
//   |value - canonical| <= slack = latent.slack_norm token.norm + latent.slack_error token.error
//                                  + latent.slack_offset
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "native/core/device_api.h"
#include "native/core/host_device.h"

namespace personascope::cuda {

struct LatentBound {
  float scale, bias, slack_norm, slack_error, slack_offset;
};
struct TokenBound {
  float scale, norm, error;
};

constexpr double kUnit = 0x1p-24;        // rounding of fp32
constexpr double kUp = 1.00002;          // covers the rounding of the bounds themselves
constexpr double kSubnormal = 0x1p-148;  // twice the least fp32
constexpr double kLargest = 1e38;        // |w| |x'| + |b| below this: no sum can overflow fp32
// g > 0 is wanted of a code; rules that compare with 0 begin at 0.
constexpr float kLeastPositive = 0x1p-149f;

// A tensor core adds the products of one instruction and the sum so far after shifting them to the largest
// exponent among them; what is shifted out is lost. With blocks of at least 4 products and at least 24 bits
// kept (measured on V100, A100 and H100: Fasi et al., "Numerical behavior of NVIDIA tensor cores", 2021; Li
// et al., "FTTN", 2024), a block of b loses at most (b + 2) 2^-23 of the largest term, and no term exceeds
// |w^| |x^|: at most (4 + 2) / 4 * 2 roundings a product. Twice that is taken.
constexpr double kTensorRoundings = 6.0;

// What a row of weights is, found in one pass over it.
struct RowFacts {
  double norm;      // |w|
  double residual;  // |w - w^|
  double mean;      // w mean
};

// What selection adds to a latent's product: (product + bias) * scale - limit.
struct LatentTerms {
  double bias, scale, limit;
};

PERSONASCOPE_HOST_DEVICE inline LatentTerms latent_terms(const Selection& selection, const float* bias,
                                                         std::size_t latent) {
  if (selection.rule == SelectionRule::gated) return {selection.gate_bias[latent], 1, 0};
  const double threshold = selection.rule == SelectionRule::threshold ? selection.threshold[latent] : 0;
  return {bias[latent], selection.scale ? selection.scale[latent] : 1.0, threshold > 0 ? threshold : 0};
}

PERSONASCOPE_HOST_DEVICE inline float rounded_up(double bound) {
  return static_cast<float>(bound * kUp);
}

// row_scale: the value of one step of the rounded row (1 for bf16); mean_norm: |mean|.
PERSONASCOPE_HOST_DEVICE inline LatentBound latent_bound(DevicePrecision precision, std::size_t width,
                                                         const RowFacts& row, double row_scale,
                                                         const LatentTerms& terms, double mean_norm) {
  const double w = static_cast<double>(width), scale = terms.scale;
  const double rounded = row.norm + row.residual;  // >= |w^|
  // Roundings of the canonical quantity and of `value` that grow with biases; subnormal numbers.
  double offset = 16 * kUnit * (scale * (fabs(terms.bias) + fabs(row.mean)) + terms.limit) +
                  scale * w * 0x1p-52 * row.norm * mean_norm +
                  (w + 64) * kSubnormal * (scale > 1 ? scale : 1.0);
  LatentBound bound;
  bound.scale = static_cast<float>(row_scale * scale);
  bound.bias = static_cast<float>(scale * (terms.bias + row.mean) - terms.limit);
  if (precision == DevicePrecision::bf16) {
    const double roundings = (kTensorRoundings * w + 64) * kUnit, flushed = 0x1p-120 * w;
    bound.slack_norm = rounded_up(scale * (row.residual + flushed + roundings * rounded));
    bound.slack_error = rounded_up(scale * (rounded * (1 + roundings) + flushed));
    offset += scale * flushed;
  } else {
    // Sums are exact; the way from them to `value` takes a few roundings.
    bound.slack_norm = rounded_up(scale * (row.residual + 16 * kUnit * rounded));
    bound.slack_error = rounded_up(scale * rounded);
  }
  bound.slack_offset = rounded_up(offset);
  return bound;
}

// length: |x'|; centred: |x' - mean| as rounded to fp32; residual: what rounding to the precision lost of it.
PERSONASCOPE_HOST_DEVICE inline TokenBound token_bound(std::size_t width, float scale, double length,
                                                       double centred, double residual) {
  // Of the canonical product and of subtracting the mean.
  const double roundings = (static_cast<double>(width) / 64 + 24) * kUnit;
  return {scale, rounded_up(centred), rounded_up(residual + roundings * (length + centred))};
}

// Rounding of a row to whole multiples of a scale, |q| <= 127. A row too small to scale is all zeros.
struct Int8Scale {
  float scale, inverse;
};
PERSONASCOPE_HOST_DEVICE inline Int8Scale int8_scale(float largest) {
  if (largest < 1e-30f) return {0, 0};
  return {largest / 127, 127 / largest};
}
PERSONASCOPE_HOST_DEVICE inline std::int8_t int8_round(float value, float inverse) {
  const float whole = rintf(value * inverse);
  return static_cast<std::int8_t>(whole > 127 ? 127 : whole < -127 ? -127 : whole);
}
// What one value lost.
PERSONASCOPE_HOST_DEVICE inline double int8_error(float value, std::int8_t q, float scale) {
  return static_cast<double>(value) - static_cast<double>(scale) * q;
}

PERSONASCOPE_HOST_DEVICE inline std::uint16_t bf16_round(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
PERSONASCOPE_HOST_DEVICE inline float bf16_widen(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// The interval of the canonical quantity. product: the sum as the tensor core gave it.
struct Interval {
  float lower, upper;
};
PERSONASCOPE_HOST_DEVICE inline Interval screened_interval(float product, const LatentBound& latent,
                                                           const TokenBound& token) {
  const float value = fmaf(product * token.scale, latent.scale, latent.bias);
  const float slack =
      fmaf(latent.slack_norm, token.norm, fmaf(latent.slack_error, token.error, latent.slack_offset));
  return {value - slack, value + slack};
}

}  // namespace personascope::cuda
