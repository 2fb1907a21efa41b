// One list of encoding problems for every device: shapes, selection rules, ties, extremes; and what the codes
// must be, by every canonical product and a full sort (native/kernels/encode/encode.h).
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "native/core/half.h"
#include "native/core/random.h"
#include "native/kernels/encode/encode.h"

namespace encode_cases {

using namespace personascope;

struct Case {
  std::string name;
  std::size_t latents = 0, width = 0, tokens = 0, k = 0;
  Dtype dtype = Dtype::f32;
  std::vector<float> weights;             // [latents, width], exact in `dtype`
  std::vector<std::uint8_t> rows;         // the same as `dtype`
  std::vector<float> bias, centre, mean;  // centre, mean: [width] or empty
  std::vector<float> x;                   // [tokens, stride]
  std::size_t stride = 0;
  SelectionRule rule = SelectionRule::topk;
  bool scaled_codes = false;
  std::vector<float> scale, threshold, gate_bias, magnitude_scale, magnitude_bias;  // [latents] or empty

  RowView view() const { return {rows.data(), dtype, width * (dtype == Dtype::f32 ? 4 : 2), latents, width}; }
  Selection selection() const {
    const auto array = [](const std::vector<float>& values) {
      return values.empty() ? nullptr : values.data();
    };
    return {rule,
            array(scale),
            scaled_codes,
            array(threshold),
            array(gate_bias),
            array(magnitude_scale),
            array(magnitude_bias)};
  }
  // A part of the tokens.
  Case tokens_of(std::size_t begin, std::size_t end) const {
    Case part = *this;
    part.tokens = end - begin;
    part.x.assign(x.begin() + static_cast<std::ptrdiff_t>(begin * stride),
                  x.begin() + static_cast<std::ptrdiff_t>(end * stride));
    return part;
  }
};

// Writes `weights` as the dtype holds them.
inline void store_rows(Case& c) {
  c.rows.resize(c.weights.size() * (c.dtype == Dtype::f32 ? 4 : 2));
  for (std::size_t i = 0; i < c.weights.size(); ++i) {
    if (c.dtype == Dtype::f32) {
      std::memcpy(&c.rows[4 * i], &c.weights[i], 4);
      continue;
    }
    std::uint16_t half = f32_to_bf16(c.weights[i]);
    if (c.dtype == Dtype::f16) {
      // Whole multiples of 1/256 up to 7: eleven bits at most, which f16 holds.
      float& value = c.weights[i];
      value = std::clamp(std::nearbyint(value * 256) / 256, -7.0f, 7.0f);
      int exponent = 0;
      const float fraction = std::frexp(std::fabs(value), &exponent);  // 0 or 0.5 to 1
      half =
          fraction == 0
              ? 0
              : static_cast<std::uint16_t>((exponent + 14) << 10 | static_cast<int>(fraction * 2048 - 1024));
      if (std::signbit(value)) half |= 0x8000u;
    } else {
      c.weights[i] = bf16_to_f32(half);
    }
    std::memcpy(&c.rows[2 * i], &half, 2);
  }
}

inline Case make(const std::string& name, std::size_t latents, std::size_t width, std::size_t tokens,
                 std::size_t k, Dtype dtype, const std::function<void(Case&)>& change = {}) {
  Case c;
  c.name = name + ", " + std::to_string(latents) + " x " + std::to_string(width) + ", " +
           std::to_string(tokens) + " tokens, k " + std::to_string(k);
  c.latents = latents, c.width = width, c.tokens = tokens, c.k = k, c.dtype = dtype;
  c.stride = width + 3;
  const Philox random(latents * 31 + width * 7 + tokens, k);
  std::uint64_t at = 0;
  const auto fill = [&](std::vector<float>& values, std::size_t count) {
    values.resize(count);
    for (float& value : values) value = static_cast<float>(random.gaussian(at++));
  };
  fill(c.weights, latents * width);
  fill(c.bias, latents);
  fill(c.centre, width);
  fill(c.x, tokens * c.stride);
  if (change) change(c);
  store_rows(c);
  return c;
}

inline std::vector<float> gaussians(std::size_t count, std::uint64_t stream, double scale = 1) {
  std::vector<float> values(count);
  const Philox random(99, stream);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(random.gaussian(i) * scale);
  return values;
}

inline std::vector<Case> all() {
  std::vector<Case> cases;
  const auto add = [&](auto&&... args) { cases.push_back(make(args...)); };
  // Shapes around the tiles of every kernel.
  add("small", 1, 1, 1, 1, Dtype::f32);
  add("odd", 11, 3, 2, 4, Dtype::f32);
  add("odd", 129, 65, 17, 7, Dtype::bf16);
  add("odd", 1000, 127, 16, 10, Dtype::f16);
  add("few tokens", 5000, 256, 1, 32, Dtype::bf16);
  add("tile edges", 256, 128, 128, 16, Dtype::bf16);
  add("tile edges", 255, 64, 257, 16, Dtype::f32);
  add("many waves", 40000, 64, 40, 8, Dtype::bf16);
  add("wide", 600, 1500, 140, 32, Dtype::bf16);
  add("all latents", 300, 40, 5, 300, Dtype::f32);
  // Selection rules.
  add("threshold", 3000, 64, 33, 0, Dtype::bf16, [](Case& c) {
    c.rule = SelectionRule::threshold;
    c.threshold = gaussians(c.latents, 1, 12);
  });
  add("relu, half of all latents", 3000, 64, 20, 0, Dtype::f32, [](Case& c) {
    c.rule = SelectionRule::threshold;
    c.threshold.assign(c.latents, 0.0f);
  });
  add("gated", 2000, 64, 33, 0, Dtype::bf16, [](Case& c) {
    c.rule = SelectionRule::gated;
    c.gate_bias = gaussians(c.latents, 2, 8);
    c.magnitude_scale = gaussians(c.latents, 3);
    c.magnitude_bias = gaussians(c.latents, 4);
    c.bias.assign(c.latents, 0.0f);
  });
  add("groupmax", 1024, 64, 33, 16, Dtype::bf16, [](Case& c) { c.rule = SelectionRule::groupmax; });
  for (bool scaled : {false, true})
    add("chosen by scaled values", 2000, 64, 33, 12, Dtype::bf16, [scaled](Case& c) {
      c.scale = gaussians(c.latents, 5);
      for (float& value : c.scale) value = std::fabs(value);
      c.scale[3] = 0;
      c.scaled_codes = scaled;
    });
  // Ties.
  add("mass ties", 6000, 32, 18, 5, Dtype::bf16, [](Case& c) {
    for (std::size_t l = 1; l < c.latents; ++l) {
      std::copy_n(c.weights.begin(), c.width, c.weights.begin() + static_cast<std::ptrdiff_t>(l * c.width));
      c.bias[l] = c.bias[0] = 50;
    }
  });
  add("pairs of equal rows", 3000, 64, 20, 9, Dtype::f32, [](Case& c) {
    for (std::size_t l = 1; l < c.latents; l += 2) {
      std::copy_n(c.weights.begin() + static_cast<std::ptrdiff_t>((l - 1) * c.width), c.width,
                  c.weights.begin() + static_cast<std::ptrdiff_t>(l * c.width));
      c.bias[l] = c.bias[l - 1];
    }
  });
  add("rising scores after silence", 20000, 16, 17, 8, Dtype::f32, [](Case& c) {
    std::fill(c.weights.begin(), c.weights.end(), 0.0f);
    for (std::size_t l = 0; l < c.latents; ++l) c.bias[l] = l < 10000 ? -1.0f : static_cast<float>(l);
  });
  // Extremes.
  add("zeros", 400, 64, 17, 4, Dtype::f32, [](Case& c) {
    std::fill(c.x.begin(), c.x.end(), 0.0f);
    c.centre.clear();
    std::fill(c.bias.begin(), c.bias.end(), 0.0f);
  });
  add("nothing is positive", 400, 64, 17, 4, Dtype::f32,
      [](Case& c) { std::fill(c.bias.begin(), c.bias.end(), -1e6f); });
  add("tiny", 900, 64, 17, 6, Dtype::f32, [](Case& c) {
    for (auto* values : {&c.weights, &c.bias, &c.x, &c.centre})
      for (float& value : *values) value *= 1e-25f;
  });
  add("huge", 900, 64, 17, 6, Dtype::bf16, [](Case& c) {
    for (auto* values : {&c.x, &c.centre})
      for (float& value : *values) value *= 1e30f;
  });
  add("rows of very different length", 3000, 64, 20, 9, Dtype::bf16, [](Case& c) {
    for (std::size_t l = 0; l < c.latents; ++l)
      for (std::size_t i = 0; i < c.width; ++i)
        c.weights[l * c.width + i] *= std::ldexp(1.0f, static_cast<int>(l % 41) - 20);
  });
  add("a few massive dimensions", 5000, 128, 40, 16, Dtype::bf16, [](Case& c) {
    c.mean.assign(c.width, 0.0f);
    for (std::size_t i = 3; i < c.width; i += 41) {
      c.mean[i] = 300;
      for (std::size_t t = 0; t < c.tokens; ++t) c.x[t * c.stride + i] += 300;
    }
  });
  return cases;
}

// The codes of every token, value falling, equal ones by lower latent.
inline std::vector<std::vector<Code>> expected(const Case& c) {
  const Selection selection = c.selection();
  std::vector<std::vector<Code>> all_codes(c.tokens);
  struct Choice {
    float score;
    Code code;
  };
  for (std::size_t t = 0; t < c.tokens; ++t) {
    std::vector<float> row(c.width);
    for (std::size_t i = 0; i < c.width; ++i)
      row[i] = c.centre.empty() ? c.x[t * c.stride + i] : c.x[t * c.stride + i] - c.centre[i];
    std::vector<Choice> choices;
    for (std::size_t l = 0; l < c.latents; ++l) {
      float sums[64] = {};
      for (std::size_t i = 0; i < c.width; ++i)
        sums[i % 64] = std::fma(c.weights[l * c.width + i], row[i], sums[i % 64]);
      for (std::size_t half = 32; half > 0; half /= 2)
        for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
      const Scored scored = score_of(selection, c.bias.data(), l, sums[0]);
      if (scored.score > 0) choices.push_back({scored.score, {scored.value, static_cast<std::uint32_t>(l)}});
    }
    const auto better = [](const Choice& a, const Choice& b) {
      return a.score != b.score ? a.score > b.score : a.code.latent < b.code.latent;
    };
    std::sort(choices.begin(), choices.end(), better);
    std::vector<Code>& codes = all_codes[t];
    std::vector<bool> taken(c.k);
    for (const Choice& choice : choices) {
      if (c.rule == SelectionRule::topk && codes.size() == c.k) break;
      if (c.rule == SelectionRule::groupmax) {
        const std::size_t group = choice.code.latent / (c.latents / c.k);
        if (taken[group]) continue;
        taken[group] = true;
      }
      codes.push_back(choice.code);
    }
    std::sort(codes.begin(), codes.end(), [](const Code& a, const Code& b) {
      return a.value != b.value ? a.value > b.value : a.latent < b.latent;
    });
  }
  return all_codes;
}

// "" or where two lists differ; values must be the same bits.
inline std::string difference(const std::vector<std::vector<Code>>& found,
                              const std::vector<std::vector<Code>>& wanted) {
  if (found.size() != wanted.size()) return std::to_string(found.size()) + " tokens";
  for (std::size_t t = 0; t < found.size(); ++t) {
    if (found[t].size() != wanted[t].size())
      return "token " + std::to_string(t) + " has " + std::to_string(found[t].size()) + " codes, expected " +
             std::to_string(wanted[t].size());
    for (std::size_t i = 0; i < found[t].size(); ++i)
      if (found[t][i].latent != wanted[t][i].latent ||
          std::memcmp(&found[t][i].value, &wanted[t][i].value, sizeof(float)) != 0)
        return "token " + std::to_string(t) + ", code " + std::to_string(i) + ": latent " +
               std::to_string(found[t][i].latent) + " with " + std::to_string(found[t][i].value) +
               ", expected " + std::to_string(wanted[t][i].latent) + " with " +
               std::to_string(wanted[t][i].value);
  }
  return "";
}

}  // namespace encode_cases
