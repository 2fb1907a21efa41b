// Means, distances and products over the rows of a matrix, for JavaScript.
#include <napi.h>

#include "native/addon/convert.h"
#include "native/addon/job.h"
#include "native/addon/modules.h"
#include "native/core/finite.h"
#include "native/core/rows.h"

namespace personascope::addon {
namespace {

constexpr std::uint64_t kMost = std::uint64_t{1} << 40;

struct Matrix {
  const float* values;
  std::size_t rows, width;
};

// Arguments (values: Float32Array [rows, width], width).
Matrix matrix(const Napi::CallbackInfo& info) {
  const auto values = typed_array<float>(info[0], "values");
  const auto width = static_cast<std::size_t>(whole_number(info[1], "width", 1, kMost));
  require(
      values.size > 0 && values.size % width == 0, ErrorCode::invalid_argument,
      "values: found " + std::to_string(values.size) + " values, expected rows of " + std::to_string(width));
  return {values.data, values.size / width, width};
}

void require_finite(const Matrix& m) {
  const std::size_t bad = first_non_finite(m.values, m.rows * m.width);
  require(bad == m.rows * m.width, ErrorCode::non_finite,
          "values: NaN or infinity in row " + std::to_string(bad / m.width) + ", component " +
              std::to_string(bad % m.width));
}

// rowMoments(values, width, options): {mean: Float64Array(width), distance} — the mean row, and the mean
// distance of the rows from it.
Napi::Value row_moments(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Matrix m = matrix(info);
    return start_job(env, info[2], {info[0]}, [m](JobContext&) -> Finish {
      require_finite(m);
      std::vector<double> mean(m.width);
      column_means(m.values, m.rows, m.width, mean.data());
      const double distance = mean_distance(m.values, m.rows, m.width, mean.data());
      return [mean, distance](Napi::Env end) mutable -> Napi::Value {
        auto result = Napi::Object::New(end);
        result.Set("mean", to_typed_array(end, std::move(mean)));
        result.Set("distance", distance);
        return result;
      };
    });
  });
}

// rowProducts(values, width, vector: Float32Array(width), options): {dots, norms: Float64Array(rows)}
Napi::Value row_products_of(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    const Matrix m = matrix(info);
    const auto vector = typed_array<float>(info[2], "vector", m.width);
    return start_job(env, info[3], {info[0], info[2]}, [m, vector](JobContext&) -> Finish {
      require_finite(m);
      std::vector<double> dots(m.rows), norms(m.rows);
      row_products(m.values, m.rows, m.width, vector.data, dots.data(), norms.data());
      return [dots, norms](Napi::Env end) mutable -> Napi::Value {
        auto result = Napi::Object::New(end);
        result.Set("dots", to_typed_array(end, std::move(dots)));
        result.Set("norms", to_typed_array(end, std::move(norms)));
        return result;
      };
    });
  });
}

}  // namespace

void initialise_rows(Napi::Env env, Napi::Object exports) {
  exports.Set("rowMoments", Napi::Function::New(env, row_moments));
  exports.Set("rowProducts", Napi::Function::New(env, row_products_of));
}

}  // namespace personascope::addon
