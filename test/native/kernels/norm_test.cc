#include "native/kernels/norm/norm.h"

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

// y of one row in double; x is the row after the residual addition.
std::vector<double> forward_row(Norm kind, const std::vector<double>& x, const float* gamma,
                                const float* beta, double eps) {
  const double n = static_cast<double>(x.size());
  double mean = 0, square = 0;
  if (kind == Norm::layer) {
    for (double v : x) mean += v;
    mean /= n;
  }
  for (double v : x) square += (v - mean) * (v - mean);
  const double rstd = 1 / std::sqrt(square / n + eps);
  std::vector<double> y(x.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    y[i] = (x[i] - mean) * rstd * gamma[i] + (kind == Norm::layer && beta ? beta[i] : 0);
  return y;
}

const std::size_t kWidths[] = {1, 3, 8, 15, 16, 17, 31, 33, 64, 65, 128, 300};

}  // namespace

TEST(forward_with_and_without_residual) {
  check::each_isa([](Isa) {
    for (Norm kind : {Norm::layer, Norm::rms})
      for (std::size_t width : kWidths)
        for (bool residual : {false, true})
          for (std::size_t rows : {1, 7, 130}) {
            const auto x = check::normal(rows * width, 1, 3), res = check::normal(rows * width, 2);
            const auto gamma = check::normal(width, 3), beta = check::normal(width, 4);
            bool same = true;
            const auto out = check::each_thread_count(
                [&] {
                  std::vector<float> y(rows * width), sum(rows * width), mean(rows), rstd(rows);
                  NormArgs a;
                  a.kind = kind;
                  a.rows = rows;
                  a.width = width;
                  a.eps = 1e-3f;
                  a.x = x.data();
                  a.residual = residual ? res.data() : nullptr;
                  a.sum = residual ? sum.data() : nullptr;
                  a.gamma = gamma.data();
                  a.beta = width % 3 == 0 ? nullptr : beta.data();
                  a.y = y.data();
                  a.mean = mean.data();
                  a.rstd = rstd.data();
                  norm_forward(a);
                  y.insert(y.end(), sum.begin(), sum.end());
                  return y;
                },
                same);
            CHECK(same);
            for (std::size_t r = 0; r < rows; ++r) {
              std::vector<double> row(width);
              for (std::size_t i = 0; i < width; ++i) {
                const std::size_t at = r * width + i;
                row[i] = residual ? x[at] + res[at] : x[at];
                if (residual) CHECK_EQ(out[rows * width + at], static_cast<float>(row[i]));
              }
              const auto y =
                  forward_row(kind, row, gamma.data(), width % 3 == 0 ? nullptr : beta.data(), 1e-3f);
              for (std::size_t i = 0; i < width; ++i)
                CHECK_CLOSE(out[r * width + i], y[i], 1e-5 * (1 + std::fabs(y[i])));
            }
          }
  });
}

TEST(large_offsets_and_constant_rows) {
  check::each_isa([](Isa) {
    const std::size_t width = 50;
    std::vector<float> x(3 * width), gamma(width, 1.0f), y(3 * width), rstd(3), mean(3);
    for (std::size_t i = 0; i < width; ++i) {
      x[i] = 10000.0f + static_cast<float>(i);  // variance far below the square of the mean
      x[width + i] = 7.0f;                      // variance 0
      x[2 * width + i] = 1e-20f * static_cast<float>(i);
    }
    NormArgs a;
    a.rows = 3;
    a.width = width;
    a.x = x.data();
    a.gamma = gamma.data();
    a.y = y.data();
    a.mean = mean.data();
    a.rstd = rstd.data();
    norm_forward(a);
    const double spread = std::sqrt((50.0 * 50 - 1) / 12);
    for (std::size_t i = 0; i < width; ++i) {
      CHECK_CLOSE(y[i], (static_cast<double>(i) - 24.5) / spread, 2e-4);
      CHECK_CLOSE(y[width + i], 0, 1e-6);
      CHECK_CLOSE(y[2 * width + i], 0, 1e-6);
    }
    CHECK_CLOSE(rstd[1], 1 / std::sqrt(1e-5), 1e-2);
  });
}

TEST(backward_against_finite_differences) {
  check::each_isa([](Isa) {
    for (Norm kind : {Norm::layer, Norm::rms})
      for (std::size_t width : {1, 3, 16, 17, 33, 65})
        for (bool accumulate : {false, true}) {
          const std::size_t rows = 5;
          const auto x = check::normal(rows * width, 1, 2), dy = check::normal(rows * width, 2);
          const auto gamma = check::normal(width, 3), beta = check::normal(width, 4);
          const auto before = check::normal(rows * width, 5), before_gamma = check::normal(width, 6);
          std::vector<float> y(rows * width), mean(rows), rstd(rows);
          NormArgs f;
          f.kind = kind;
          f.rows = rows;
          f.width = width;
          f.eps = 1e-2f;
          f.x = x.data();
          f.gamma = gamma.data();
          f.beta = beta.data();
          f.y = y.data();
          f.mean = mean.data();
          f.rstd = rstd.data();
          norm_forward(f);
          auto dx = before;
          auto dgamma = before_gamma;
          std::vector<float> dbeta(width);
          NormBackwardArgs b;
          b.kind = kind;
          b.rows = rows;
          b.width = width;
          b.x = x.data();
          b.gamma = gamma.data();
          b.mean = mean.data();
          b.rstd = rstd.data();
          b.dy = dy.data();
          b.dx = dx.data();
          b.accumulate_dx = accumulate;
          b.dgamma = dgamma.data();
          b.dbeta = dbeta.data();
          norm_backward(b);
          const auto loss = [&](std::size_t r, const std::vector<double>& row, const float* g) {
            const auto out = forward_row(kind, row, g, beta.data(), 1e-2f);
            double sum = 0;
            for (std::size_t i = 0; i < width; ++i) sum += out[i] * dy[r * width + i];
            return sum;
          };
          const double h = 1e-4;
          for (std::size_t r = 0; r < rows; ++r) {
            std::vector<double> row(x.begin() + static_cast<std::ptrdiff_t>(r * width),
                                    x.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
            for (std::size_t i = 0; i < width; ++i) {
              const double at = row[i];
              row[i] = at + h;
              const double up = loss(r, row, gamma.data());
              row[i] = at - h;
              const double down = loss(r, row, gamma.data());
              row[i] = at;
              const double expected = (up - down) / (2 * h) + (accumulate ? before[r * width + i] : 0);
              CHECK_CLOSE(dx[r * width + i], expected, 3e-5 * (1 + std::fabs(expected)));
            }
          }
          for (std::size_t i = 0; i < width; ++i) {  // both are linear: exact differences
            double expected_gamma = before_gamma[i], expected_beta = 0;
            for (std::size_t r = 0; r < rows; ++r) {
              const std::vector<double> row(x.begin() + static_cast<std::ptrdiff_t>(r * width),
                                            x.begin() + static_cast<std::ptrdiff_t>((r + 1) * width));
              std::vector<float> ones(width, 1.0f);
              expected_gamma += dy[r * width + i] * forward_row(kind, row, ones.data(), nullptr, 1e-2f)[i];
              expected_beta += dy[r * width + i];
            }
            CHECK_CLOSE(dgamma[i], expected_gamma, 1e-4);
            CHECK_CLOSE(dbeta[i], expected_beta, 1e-5);
          }
        }
  });
}

TEST(backward_does_not_depend_on_the_threads) {
  check::each_isa([](Isa) {
    const std::size_t rows = 3001, width = 70;
    const auto x = check::normal(rows * width, 1), dy = check::normal(rows * width, 2);
    const auto gamma = check::normal(width, 3), mean = check::normal(rows, 4);
    const std::vector<float> rstd(rows, 0.7f);
    bool same = true;
    const auto out = check::each_thread_count(
        [&] {
          std::vector<float> all(2 * width + rows * width);
          NormBackwardArgs b;
          b.rows = rows;
          b.width = width;
          b.x = x.data();
          b.gamma = gamma.data();
          b.mean = mean.data();
          b.rstd = rstd.data();
          b.dy = dy.data();
          b.dgamma = all.data();
          b.dbeta = all.data() + width;
          b.dx = all.data() + 2 * width;
          norm_backward(b);
          return all;
        },
        same);
    CHECK(same);
    for (std::size_t i = 0; i < width; ++i) {
      double sum = 0;
      for (std::size_t r = 0; r < rows; ++r) sum += dy[r * width + i];
      CHECK_CLOSE(out[width + i], sum, 1e-3);
    }
  });
}

TEST(missing_arrays_are_errors) {
  float x = 0;
  NormArgs a;
  a.residual = &x;
  CHECK_THROWS(norm_forward(a), ErrorCode::invalid_argument);
  NormBackwardArgs b;
  CHECK_THROWS(norm_backward(b), ErrorCode::invalid_argument);
}
