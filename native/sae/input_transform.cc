#include "native/sae/input_transform.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "native/core/check_finite.h"
#include "native/kernels/parallel.h"

namespace personascope {

void InputTransform::apply(const float* x, std::size_t tokens, std::size_t stride, std::size_t first_token,
                           float* out, float* means, float* scales) const {
  check_finite("activations", x, tokens, width, stride, first_token);
  const double d = static_cast<double>(width);
  parallel_rows(tokens, 8 * width, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const auto refuse = [&](const char* why) {
        fail(ErrorCode::invalid_argument, "activations: row " + std::to_string(first_token + t) + " " + why);
      };
      float* row = out + t * width;
      const float* from = x + t * stride;
      for (std::size_t i = 0; i < width; ++i) row[i] = scale ? (from[i] - mean[i]) / scale[i] : from[i];
      means[t] = 0;
      scales[t] = 1;
      if (norm == InputNorm::constant_norm_rescale) {
        double squares = 0;
        for (std::size_t i = 0; i < width; ++i) squares += static_cast<double>(row[i]) * row[i];
        if (!(squares > 0)) refuse("has length 0, which constant_norm_rescale cannot rescale");
        const double factor = std::sqrt(squares / d);
        for (std::size_t i = 0; i < width; ++i) row[i] = static_cast<float>(row[i] / factor);
        scales[t] = static_cast<float>(factor);
      } else if (norm == InputNorm::layer_norm) {
        double sum = 0, squares = 0;
        for (std::size_t i = 0; i < width; ++i) sum += row[i];
        const double centre = sum / d;
        for (std::size_t i = 0; i < width; ++i) squares += (row[i] - centre) * (row[i] - centre);
        if (!(squares > 0)) refuse("has equal values, which layer_norm cannot scale");
        const double deviation = std::sqrt(squares / (d - 1));
        for (std::size_t i = 0; i < width; ++i)
          row[i] = static_cast<float>((row[i] - centre) / (deviation + 1e-5));
        means[t] = static_cast<float>(centre);
        scales[t] = static_cast<float>(deviation);
      }
    }
  });
}

void InputTransform::undo(float* values, std::size_t tokens, const float* means, const float* scales) const {
  parallel_rows(tokens, 4 * width, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t)
      for (std::size_t i = 0; i < width; ++i) {
        float& value = values[t * width + i];
        if (norm != InputNorm::none) value = std::fma(value, scales[t], means[t]);
        if (scale) value = std::fma(value, scale[i], mean[i]);
      }
  });
}

}  // namespace personascope
