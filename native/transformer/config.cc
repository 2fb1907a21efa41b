#include "native/transformer/config.h"

#include <cmath>
#include <string>

#include "native/core/error.h"
#include "native/kernels/rope/rope.h"

namespace personascope {

namespace {

void check_range(const char* name, std::size_t value, std::size_t low, std::size_t high) {
  require(value >= low && value <= high, ErrorCode::invalid_argument,
          std::string(name) + " is " + std::to_string(value) + ", expected " + std::to_string(low) + " to " +
              std::to_string(high));
}

void check_positive(const char* name, double value) {
  require(std::isfinite(value) && value > 0, ErrorCode::invalid_argument,
          std::string(name) + " is " + std::to_string(value) + ", expected a positive number");
}

}  // namespace

void validate(const TransformerConfig& config) {
  constexpr std::size_t kMost = std::size_t{1} << 24;
  check_range("vocabulary size", config.vocabulary, 1, kMost);
  check_range("width of the residual stream", config.width, 1, kMost);
  check_range("number of layers", config.layers, 1, 4096);
  check_range("number of heads", config.heads, 1, 65536);
  check_range("number of key-value heads", config.kv_heads, 1, config.heads);
  check_range("head dimension", config.head_dim, 1, 65536);
  check_range("width of the feed-forward block", config.hidden, 1, kMost);
  check_range("number of positions", config.positions, 1, kMost);
  check_positive("norm epsilon", config.norm_eps);
  require(std::isfinite(config.initial_std) && config.initial_std >= 0, ErrorCode::invalid_argument,
          "initial standard deviation: expected a number of at least 0");
  require(config.heads % config.kv_heads == 0, ErrorCode::invalid_argument,
          "number of heads is " + std::to_string(config.heads) + ", expected a multiple of the " +
              std::to_string(config.kv_heads) + " key-value heads");
  if (config.family == Family::gpt2) {
    require(config.kv_heads == config.heads && config.query_width() == config.width,
            ErrorCode::invalid_argument,
            "heads x head dimension is " + std::to_string(config.query_width()) + ", expected the width " +
                std::to_string(config.width));
  } else {
    require(config.head_dim % 2 == 0, ErrorCode::invalid_argument,
            "head dimension is " + std::to_string(config.head_dim) +
                ", expected an even number for rotary positions");
    check_positive("rope theta", config.rope_theta);
    check_positive("rope factor", config.rope_factor);
    if (config.rope_scaling == RopeScaling::llama3) {
      check_positive("rope low_freq_factor", config.rope_low_freq_factor);
      check_positive("rope original positions", config.rope_original_positions);
      require(config.rope_high_freq_factor > config.rope_low_freq_factor, ErrorCode::invalid_argument,
              "rope high_freq_factor is " + std::to_string(config.rope_high_freq_factor) +
                  ", expected more than low_freq_factor " + std::to_string(config.rope_low_freq_factor));
    }
  }
}

std::vector<float> rotary_frequencies(const TransformerConfig& config) {
  auto frequencies = rope_inv_freq(config.rope_theta, config.head_dim);
  if (config.rope_scaling == RopeScaling::none) return frequencies;
  const double pi = 3.14159265358979323846;
  const double low_wavelength = config.rope_original_positions / config.rope_low_freq_factor;
  const double high_wavelength = config.rope_original_positions / config.rope_high_freq_factor;
  for (float& frequency : frequencies) {
    const double wavelength = 2 * pi / frequency;
    if (config.rope_scaling == RopeScaling::linear || wavelength > low_wavelength) {
      frequency = static_cast<float>(frequency / config.rope_factor);
    } else if (wavelength >= high_wavelength) {
      const double smooth = (config.rope_original_positions / wavelength - config.rope_low_freq_factor) /
                            (config.rope_high_freq_factor - config.rope_low_freq_factor);
      frequency = static_cast<float>((1 - smooth) * frequency / config.rope_factor + smooth * frequency);
    }
  }
  return frequencies;
}

}  // namespace personascope
