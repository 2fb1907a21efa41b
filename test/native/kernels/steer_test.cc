#include "native/kernels/steer/steer.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

// groups x dimensions orthonormal rows (Gram-Schmidt).
std::vector<float> orthonormal(std::size_t groups, std::size_t dimensions, std::size_t width,
                               std::uint64_t seed) {
  auto rows = check::normal(groups * dimensions * width, seed);
  for (std::size_t r = 0; r < groups * dimensions; ++r) {
    std::vector<double> v(rows.begin() + static_cast<std::ptrdiff_t>(r * width),
                          rows.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
    for (std::size_t q = r - r % dimensions; q < r; ++q) {
      double dot = 0;
      for (std::size_t i = 0; i < width; ++i) dot += v[i] * rows[q * width + i];
      for (std::size_t i = 0; i < width; ++i) v[i] -= dot * rows[q * width + i];
    }
    double norm = 0;
    for (double value : v) norm += value * value;
    for (std::size_t i = 0; i < width; ++i) rows[r * width + i] = static_cast<float>(v[i] / std::sqrt(norm));
  }
  return rows;
}

}  // namespace

TEST(every_kind_and_variant) {
  for (std::size_t width : {4, 7, 16, 17, 63, 64, 65, 130})
    for (std::size_t rows : {1, 3, 65, 700})
      for (std::size_t dimensions : {1, 3})
        for (SteerKind kind : {SteerKind::add, SteerKind::ablate, SteerKind::clamp, SteerKind::project}) {
          if (rows == 700 && width != 65) continue;
          const std::size_t groups = 2, stride = width + 3;
          const bool centred = width % 2 == 1;
          const auto vectors = orthonormal(groups, dimensions, width, width + rows);
          const auto before = check::normal(rows * stride, 5, 2);
          const auto centre = check::normal(width, 6);
          const auto amounts = check::normal(groups * dimensions, 7);
          std::vector<float> low = amounts, high = amounts;
          for (std::size_t i = 0; i < high.size(); ++i) high[i] += i % 2 ? 0.5f : 0.0f;
          low.back() = -std::numeric_limits<float>::infinity();
          std::vector<std::uint8_t> mask(rows);
          std::vector<std::uint32_t> group(rows);
          for (std::size_t r = 0; r < rows; ++r) {
            mask[r] = r % 3 != 1;
            group[r] = r % 2;
          }
          SteerArgs args;
          args.kind = kind;
          args.rows = rows;
          args.width = width;
          args.stride = stride;
          args.mask = rows == 3 ? nullptr : mask.data();
          args.group = rows == 1 ? nullptr : group.data();
          args.groups = groups;
          args.dimensions = dimensions;
          args.vectors = vectors.data();
          args.amounts = amounts.data();
          args.low = low.data();
          args.high = high.data();
          args.centre = centred ? centre.data() : nullptr;
          std::vector<float> first;
          check::each_isa([&](Isa) {
            bool same = false;
            const auto found = check::each_thread_count(
                [&] {
                  std::vector<float> x = before;
                  args.x = x.data();
                  steer(args);
                  return x;
                },
                same);
            CHECK(same);
            if (first.empty()) first = found;
            CHECK(first == found);
          });
          for (std::size_t r = 0; r < rows; ++r) {
            const float* x = before.data() + r * stride;
            const std::size_t g = args.group ? group[r] : 0;
            std::vector<double> wanted(x, x + width);
            if (!args.mask || mask[r]) {
              if (kind == SteerKind::project)
                for (std::size_t i = 0; i < width; ++i) wanted[i] = centred ? centre[i] : 0;
              for (std::size_t j = 0; j < dimensions; ++j) {
                const std::size_t at = g * dimensions + j;
                double along = 0;
                for (std::size_t i = 0; i < width; ++i)
                  along +=
                      (x[i] - (centred ? static_cast<double>(centre[i]) : 0.0)) * vectors[at * width + i];
                const double change = kind == SteerKind::add      ? amounts[at]
                                      : kind == SteerKind::ablate ? -along
                                      : kind == SteerKind::clamp
                                          ? std::clamp<double>(along, low[at], high[at]) - along
                                          : along;
                for (std::size_t i = 0; i < width; ++i) wanted[i] += change * vectors[at * width + i];
              }
            }
            for (std::size_t i = 0; i < stride; ++i)
              CHECK_CLOSE(first[r * stride + i], i < width ? wanted[i] : before[r * stride + i],
                          i < width ? 1e-4 : 0);
          }
        }
}

TEST(refuses_what_makes_no_sense) {
  float x[8] = {}, bad[4] = {1, 1, 0, 0}, unit[4] = {1, 0, 0, 0};
  const float amount[1] = {std::numeric_limits<float>::quiet_NaN()}, low[1] = {2}, high[1] = {1};
  const std::uint32_t group[2] = {0, 1};
  SteerArgs args;
  args.x = x;
  args.rows = 2;
  args.width = args.stride = 4;
  args.vectors = bad;
  args.kind = SteerKind::ablate;
  CHECK_THROWS(steer(args), ErrorCode::invalid_argument);
  args.vectors = unit;
  args.kind = SteerKind::clamp;
  args.low = low;
  args.high = high;
  CHECK_THROWS(steer(args), ErrorCode::invalid_argument);
  args.kind = SteerKind::add;
  args.amounts = amount;
  CHECK_THROWS(steer(args), ErrorCode::non_finite);
  args.kind = SteerKind::project;
  args.group = group;
  CHECK_THROWS(steer(args), ErrorCode::invalid_argument);
}
