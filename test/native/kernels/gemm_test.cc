#include "native/kernels/gemm/gemm.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

struct Case {
  std::size_t m, n, k;
  bool transpose_a = false, transpose_b = false, bias = false, accumulate = false, packed = false;
  float alpha = 1;
  Activation activation = Activation::none;
  bool activated = false;
};

double activate(Activation kind, double x) {
  return kind == Activation::relu ? std::max(x, 0.0) : kind == Activation::silu ? x / (1 + std::exp(-x)) : x;
}

// Compares with a sum in double; the error of a fp32 chain of k steps is below k eps sum |a b|.
void run(const Case& s) {
  const std::size_t lda = (s.transpose_a ? s.m : s.k) + 3, ldb = (s.transpose_b ? s.k : s.n) + 1,
                    ldc = s.n + 5;
  const auto a = check::normal((s.transpose_a ? s.k : s.m) * lda + 1, 1);
  const auto b = check::normal((s.transpose_b ? s.n : s.k) * ldb + 1, 2);
  const auto bias = check::normal(s.n, 3);
  const auto start = check::normal(s.m * ldc + 1, 4);
  bool same = true;
  const auto found = check::each_thread_count(
      [&] {
        std::vector<float> c = start;
        std::vector<float> act(s.m * ldc, 7.0f);
        PackedMatrix packed;
        GemmArgs g;
        g.m = s.m;
        g.n = s.n;
        g.k = s.k;
        g.a = a.data();
        g.lda = lda;
        g.transpose_a = s.transpose_a;
        g.b = b.data();
        g.ldb = ldb;
        g.transpose_b = s.transpose_b;
        if (s.packed) {
          packed.pack(b.data(), ldb, s.transpose_b, s.k, s.n);
          g.packed_b = &packed;
          g.b = nullptr;
        }
        g.c = c.data();
        g.ldc = ldc;
        g.alpha = s.alpha;
        g.bias = s.bias ? bias.data() : nullptr;
        g.accumulate = s.accumulate;
        g.activation = s.activation;
        if (s.activated) {
          g.activated = act.data();
          g.ldactivated = ldc;
        }
        gemm(g);
        c.insert(c.end(), act.begin(), act.end());
        return c;
      },
      same);
  CHECK(same);
  int bad = 0;
  const float* act = found.data() + start.size();
  for (std::size_t i = 0; i < s.m && !bad; ++i)
    for (std::size_t j = 0; j < ldc; ++j) {
      const float value = found[i * ldc + j];
      if (j >= s.n) {  // what lies between the rows is untouched
        bad += value != start[i * ldc + j] || act[i * ldc + j] != 7.0f;
        continue;
      }
      double sum = 0, size = 0;
      for (std::size_t p = 0; p < s.k; ++p) {
        const double x = s.transpose_a ? a[p * lda + i] : a[i * lda + p];
        const double y = s.transpose_b ? b[j * ldb + p] : b[p * ldb + j];
        sum += x * y;
        size += std::fabs(x * y);
      }
      double expected =
          s.alpha * sum + (s.bias ? bias[j] : 0.0f) + (s.accumulate ? start[i * ldc + j] : 0.0f);
      const double tolerance =
          6e-8 * (4 + 2 * std::sqrt(static_cast<double>(s.k))) * (std::fabs(s.alpha) * size + 4) / 4 + 1e-6;
      if (s.activated) {
        bad += !(std::fabs(value - expected) <= tolerance);
        bad += !(std::fabs(act[i * ldc + j] - activate(s.activation, expected)) <= 2 * tolerance);
      } else {
        bad += !(std::fabs(value - activate(s.activation, expected)) <= 2 * tolerance);
      }
    }
  if (bad)
    check::report(__FILE__, __LINE__,
                  std::string(isa_name(active_isa())) + ": wrong at " + std::to_string(s.m) + "x" +
                      std::to_string(s.n) + "x" + std::to_string(s.k) + " ta " +
                      std::to_string(s.transpose_a) + " tb " + std::to_string(s.transpose_b));
}

}  // namespace

TEST(all_transposes_and_odd_shapes) {
  check::each_isa([](Isa) {
    const std::size_t sizes[] = {1, 2, 3, 5, 7, 13, 14, 15, 16, 17, 31, 33, 63, 65, 127, 129, 257};
    int at = 0;
    for (std::size_t m : sizes)
      for (int turn = 0; turn < 6; ++turn) {
        ++at;
        const std::size_t n = sizes[(at * 7) % 17], k = sizes[(at * 5 + turn) % 17];
        for (int t = 0; t < 4; ++t)
          run({m, n, k, (t & 1) != 0, (t & 2) != 0, at % 3 == 0, at % 2 == 0, at % 5 == 0,
               at % 7 == 0 ? -0.5f : 1.0f});
      }
  });
}

TEST(blocks_of_k_and_long_sums) {
  check::each_isa([](Isa) {
    for (std::size_t k : {255, 256, 257, 511, 512, 513, 1100})
      for (int t = 0; t < 4; ++t) run({29, 70, k, (t & 1) != 0, (t & 2) != 0, true, t == 1});
    run({20, 24, 5000, true, false, false, true});
    run({300, 130, 128, false, true, true});
    run({3, 700, 300, false, true, true, false, true});
  });
}

TEST(few_rows_read_only_the_panels_that_exist) {
  // PackedMatrix allocates exactly its panels, so that the address sanitizer sees a read past them.
  check::each_isa([](Isa) {
    for (std::size_t m = 1; m <= 8; ++m)
      for (std::size_t n : {1, 16, 17, 32, 33, 40, 48, 49, 64, 65, 80, 81, 97, 112, 113, 128, 161})
        run({m, n, 37, false, true, n % 2 == 0, false, true});
  });
}

TEST(b_larger_than_a_slab_is_cut) {
  // 2^21 floats are held at once: both k and n are cut here.
  check::each_isa([](Isa isa) {
    if (isa == Isa::reference) return;
    run({2, 300, 9000, false, true, true});
    run({2, 5000, 500, false, false, true, true});
  });
}

TEST(epilogue) {
  check::each_isa([](Isa) {
    run({17, 33, 300, false, true, true, false, false, 1, Activation::relu});
    run({17, 33, 300, false, true, true, false, true, 1, Activation::relu, true});
    run({70, 100, 513, false, true, true, true, false, 0.1f, Activation::silu, true});
    run({1, 100, 20, false, true, true, true, false, 0.1f, Activation::silu});
  });
}

TEST(no_inner_dimension_leaves_the_bias) {
  check::each_isa([](Isa) { run({5, 9, 0, false, true, true, true}); });
}

TEST(a_row_has_the_same_bits_alone_and_in_a_batch) {
  check::each_isa([](Isa) {
    const std::size_t m = 45, n = 150, k = 600;
    const auto a = check::normal(m * k, 1), b = check::normal(n * k, 2);
    std::vector<float> all(m * n), one(n);
    GemmArgs g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = k;
    g.b = b.data();
    g.ldb = k;
    g.transpose_b = true;
    g.c = all.data();
    g.ldc = n;
    gemm(g);
    const PackedMatrix packed(b.data(), k, true, k, n);
    for (std::size_t rows : {1, 2, 3, 4, 6, 9}) {
      std::vector<float> some(rows * n);
      GemmArgs h = g;
      h.m = rows;
      h.a = a.data() + 7 * k;
      h.packed_b = &packed;
      h.c = some.data();
      gemm(h);
      CHECK(std::memcmp(some.data(), all.data() + 7 * n, rows * n * sizeof(float)) == 0);
    }
  });
}

TEST(infinity_and_nan_stay_in_their_rows) {
  check::each_isa([](Isa) {
    const std::size_t m = 20, n = 18, k = 5;
    auto a = check::normal(m * k, 1);
    const auto b = check::normal(n * k, 2);
    a[3 * k] = std::numeric_limits<float>::infinity();
    a[4 * k] = std::numeric_limits<float>::quiet_NaN();
    std::vector<float> c(m * n);
    GemmArgs g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a.data();
    g.lda = k;
    g.b = b.data();
    g.ldb = n;
    g.c = c.data();
    g.ldc = n;
    gemm(g);
    for (std::size_t i = 0; i < m; ++i)
      for (std::size_t j = 0; j < n; ++j) {
        CHECK_EQ(std::isinf(c[i * n + j]), i == 3);
        CHECK_EQ(std::isnan(c[i * n + j]), i == 4);
      }
  });
}

TEST(wrong_sizes_are_errors) {
  std::vector<float> x(100);
  GemmArgs g;
  g.m = g.n = g.k = 4;
  g.a = g.b = x.data();
  g.c = x.data() + 50;
  g.lda = 3;
  g.ldb = g.ldc = 4;
  CHECK_THROWS(gemm(g), ErrorCode::invalid_argument);
  g.lda = 4;
  g.ldc = 1;
  CHECK_THROWS(gemm(g), ErrorCode::invalid_argument);
  g.ldc = 4;
  const PackedMatrix packed(x.data(), 5, true, 5, 4);
  g.packed_b = &packed;
  CHECK_THROWS(gemm(g), ErrorCode::invalid_argument);
}

TEST(column_sums_of_odd_shapes) {
  check::each_isa([](Isa) {
    for (std::size_t rows : {0, 1, 3, 64, 65, 500, 5000})
      for (std::size_t width : {1, 15, 17, 64, 65, 130}) {
        const std::size_t stride = width + 2;
        const auto x = check::normal(rows * stride + 1, 5);
        bool same = true;
        const auto found = check::each_thread_count(
            [&] {
              std::vector<float> sums(width + 1, 2.0f);
              column_sums(rows, width, x.data(), stride, sums.data(), true);
              return sums;
            },
            same);
        CHECK(same);
        CHECK_EQ(found[width], 2.0f);
        for (std::size_t j = 0; j < width; ++j) {
          double sum = 2;
          for (std::size_t r = 0; r < rows; ++r) sum += x[r * stride + j];
          CHECK_CLOSE(found[j], sum, 1e-6 * (10 + static_cast<double>(rows) / 10));
        }
      }
  });
}
