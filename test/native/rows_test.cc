#include "native/core/rows.h"

#include <vector>

#include "native/core/random.h"
#include "native/core/thread_pool.h"
#include "test/native/check.h"

using namespace personascope;

TEST(row_sums_against_long_double_and_over_threads) {
  for (std::size_t rows : {std::size_t{1}, std::size_t{3}, std::size_t{5000}}) {
    for (std::size_t width : {std::size_t{1}, std::size_t{17}, std::size_t{130}}) {
      std::vector<float> values(rows * width), vector(width);
      const Philox random(rows, width);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(3 + random.gaussian(i));
      for (std::size_t i = 0; i < width; ++i)
        vector[i] = static_cast<float>(random.gaussian(values.size() + i));
      std::vector<double> mean(width), dots(rows), norms(rows), mean2(width), dots2(rows), norms2(rows);
      set_thread_count(1);
      column_means(values.data(), rows, width, mean.data());
      const double distance = mean_distance(values.data(), rows, width, mean.data());
      row_products(values.data(), rows, width, vector.data(), dots.data(), norms.data());
      long double distances = 0;
      for (std::size_t j = 0; j < width; ++j) {
        long double sum = 0;
        for (std::size_t i = 0; i < rows; ++i) sum += values[i * width + j];
        CHECK_CLOSE(mean[j], static_cast<double>(sum / rows), 1e-12);
      }
      for (std::size_t i = 0; i < rows; ++i) {
        long double squares = 0, dot = 0, norm = 0;
        for (std::size_t j = 0; j < width; ++j) {
          const long double x = values[i * width + j];
          squares += (x - mean[j]) * (x - mean[j]);
          dot += x * vector[j];
          norm += x * x;
        }
        distances += std::sqrt(squares);
        CHECK_CLOSE(dots[i], static_cast<double>(dot), 1e-10);
        CHECK_CLOSE(norms[i], static_cast<double>(std::sqrt(norm)), 1e-10);
      }
      CHECK_CLOSE(distance, static_cast<double>(distances / rows), 1e-10);
      for (int threads : {2, 5}) {
        set_thread_count(threads);
        column_means(values.data(), rows, width, mean2.data());
        row_products(values.data(), rows, width, vector.data(), dots2.data(), norms2.data());
        CHECK(mean == mean2 && dots == dots2 && norms == norms2);
        CHECK(mean_distance(values.data(), rows, width, mean.data()) == distance);
      }
    }
  }
}
