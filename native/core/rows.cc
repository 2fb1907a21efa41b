#include "native/core/rows.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "native/core/thread_pool.h"

namespace personascope {
namespace {

// Rows a chunk may have so that it is worth a thread: about 2^16 elements.
std::size_t row_grain(std::size_t width) {
  return std::max<std::size_t>(1, (std::size_t{1} << 16) / std::max<std::size_t>(1, width));
}

}  // namespace

void column_means(const float* values, std::size_t rows, std::size_t width, double* mean) {
  // Split by columns only: each column is summed from the first row to the last.
  parallel_for(width, rows < 4096 ? width + 1 : 64, [&](std::size_t begin, std::size_t end) {
    std::fill(mean + begin, mean + end, 0.0);
    for (std::size_t i = 0; i < rows; ++i) {
      const float* row = values + i * width;
      for (std::size_t j = begin; j < end; ++j) mean[j] += row[j];
    }
    for (std::size_t j = begin; j < end; ++j) mean[j] /= static_cast<double>(rows);
  });
}

double mean_distance(const float* values, std::size_t rows, std::size_t width, const double* centre) {
  std::vector<double> distances(rows);
  parallel_for(rows, row_grain(width), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      double squares = 0;
      for (std::size_t j = 0; j < width; ++j) {
        const double difference = values[i * width + j] - centre[j];
        squares += difference * difference;
      }
      distances[i] = std::sqrt(squares);
    }
  });
  double sum = 0;
  for (const double distance : distances) sum += distance;
  return sum / static_cast<double>(rows);
}

void row_products(const float* values, std::size_t rows, std::size_t width, const float* vector, double* dots,
                  double* norms) {
  parallel_for(rows, row_grain(width), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      double dot = 0, squares = 0;
      for (std::size_t j = 0; j < width; ++j) {
        const double value = values[i * width + j];
        dot += value * vector[j];
        squares += value * value;
      }
      dots[i] = dot;
      norms[i] = std::sqrt(squares);
    }
  });
}

}  // namespace personascope
