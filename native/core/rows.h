// Sums over the rows of a matrix [rows, width], fp32 in, double inside. Every sum runs in the order of its
// index, so the results do not depend on the number of threads.
#pragma once
#include <cstddef>

namespace personascope {

// mean[j] = the mean of column j; mean: [width]. rows >= 1.
void column_means(const float* values, std::size_t rows, std::size_t width, double* mean);

// The mean over rows of the Euclidean distance from `centre` [width]. rows >= 1.
double mean_distance(const float* values, std::size_t rows, std::size_t width, const double* centre);

// dots[i] = row i · vector, norms[i] = Euclidean norm of row i; dots, norms: [rows], vector: [width].
void row_products(const float* values, std::size_t rows, std::size_t width, const float* vector, double* dots,
                  double* norms);

}  // namespace personascope
