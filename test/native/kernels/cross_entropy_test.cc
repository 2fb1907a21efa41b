#include "native/kernels/cross_entropy/cross_entropy.h"

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

double loss_of(const std::vector<double>& x, std::size_t target) {
  double max = x[0], sum = 0;
  for (double v : x) max = std::max(max, v);
  for (double v : x) sum += std::exp(v - max);
  return std::log(sum) + max - x[target];
}

}  // namespace

TEST(loss_and_gradient_against_differences) {
  check::each_isa([](Isa) {
    for (std::size_t vocabulary : {1, 2, 7, 16, 17, 31, 33, 64, 65, 130})
      for (double scale : {1.0, 10.0}) {
        const std::size_t rows = 23, stride = vocabulary + 2;
        const auto logits = check::normal(rows * stride, 1, scale);
        auto weights = check::normal(rows, 2);
        weights[3] = 0;
        std::vector<std::int32_t> targets(rows);
        for (std::size_t r = 0; r < rows; ++r) targets[r] = static_cast<std::int32_t>(r * 11 % vocabulary);
        targets[3] = -100;  // skipped, so not looked at
        bool same = true;
        const auto found = check::each_thread_count(
            [&] {
              std::vector<float> out(2 * rows);
              auto inout = logits;
              CrossEntropyArgs a;
              a.rows = rows;
              a.vocabulary = vocabulary;
              a.logits = inout.data();
              a.logits_stride = stride;
              a.targets = targets.data();
              a.weights = weights.data();
              a.losses = out.data();
              a.lse = out.data() + rows;
              a.dlogits = inout.data();
              a.dlogits_stride = stride;
              cross_entropy(a);
              out.insert(out.end(), inout.begin(), inout.end());
              return out;
            },
            same);
        CHECK(same);
        const float* gradient = found.data() + 2 * rows;
        for (std::size_t r = 0; r < rows; ++r) {
          std::vector<double> row(logits.begin() + static_cast<std::ptrdiff_t>(r * stride),
                                  logits.begin() + static_cast<std::ptrdiff_t>(r * stride + vocabulary));
          const std::size_t target = static_cast<std::size_t>(std::max(targets[r], 0));
          const double loss = loss_of(row, target);
          CHECK_CLOSE(found[r], r == 3 ? 0 : loss, 1e-5 * (1 + loss));
          CHECK_CLOSE(found[rows + r], r == 3 ? 0 : loss + row[target], 2e-5 * (1 + std::fabs(loss)));
          for (std::size_t j = 0; j < vocabulary; ++j) {
            const double at = row[j], h = 1e-4;
            row[j] = at + h;
            const double up = loss_of(row, target);
            row[j] = at - h;
            const double down = loss_of(row, target);
            row[j] = at;
            CHECK_CLOSE(gradient[r * stride + j], r == 3 ? 0 : weights[r] * (up - down) / (2 * h), 2e-6);
          }
          for (std::size_t j = vocabulary; j < stride; ++j)
            CHECK_EQ(gradient[r * stride + j], logits[r * stride + j]);
        }
      }
  });
}

TEST(extreme_logits) {
  check::each_isa([](Isa) {
    const std::size_t vocabulary = 37, rows = 4;
    std::vector<float> x(rows * vocabulary, -1e4f), dx(rows * vocabulary), losses(rows);
    x[5] = 1e4f;                                                                 // row 0: certain and right
    x[vocabulary + 5] = 1e4f;                                                    // row 1: certain and wrong
    for (std::size_t j = 0; j < vocabulary; ++j) x[2 * vocabulary + j] = 3e38f;  // row 2: all equal, huge
    for (std::size_t j = 0; j < vocabulary; ++j) x[3 * vocabulary + j] = -3e38f;
    const std::vector<std::int32_t> targets = {5, 6, 0, 36};
    CrossEntropyArgs a;
    a.rows = rows;
    a.vocabulary = vocabulary;
    a.logits = x.data();
    a.logits_stride = vocabulary;
    a.targets = targets.data();
    a.losses = losses.data();
    a.dlogits = dx.data();
    a.dlogits_stride = vocabulary;
    cross_entropy(a);
    CHECK_CLOSE(losses[0], 0, 1e-6);
    CHECK_CLOSE(losses[1], 2e4, 1e-2);
    CHECK_CLOSE(losses[2], std::log(37.0), 1e-5);
    CHECK_CLOSE(losses[3], std::log(37.0), 1e-5);
    CHECK_CLOSE(dx[5], 0, 1e-6);
    CHECK_CLOSE(dx[vocabulary + 5], 1, 1e-6);
    CHECK_CLOSE(dx[vocabulary + 6], -1, 1e-6);
    CHECK_CLOSE(dx[2 * vocabulary], 1.0 / 37 - 1, 1e-6);
    CHECK_CLOSE(dx[3 * vocabulary], 1.0 / 37, 1e-6);
  });
}

TEST(large_vocabulary_without_gradient) {
  check::each_isa([](Isa) {
    const std::size_t vocabulary = 50257;
    const auto x = check::normal(vocabulary, 1, 3);
    const std::int32_t target = 50256;
    float loss = 0;
    CrossEntropyArgs a;
    a.rows = 1;
    a.vocabulary = vocabulary;
    a.logits = x.data();
    a.logits_stride = vocabulary;
    a.targets = &target;
    a.losses = &loss;
    cross_entropy(a);
    CHECK_CLOSE(loss, loss_of({x.begin(), x.end()}, vocabulary - 1), 2e-5);
  });
}

TEST(target_outside_is_an_error) {
  std::vector<float> x(4);
  std::int32_t target = 4;
  float loss = 0;
  CrossEntropyArgs a;
  a.rows = 1;
  a.vocabulary = 4;
  a.logits = x.data();
  a.logits_stride = 4;
  a.targets = &target;
  a.losses = &loss;
  CHECK_THROWS(cross_entropy(a), ErrorCode::invalid_argument);
  target = -1;
  CHECK_THROWS(cross_entropy(a), ErrorCode::invalid_argument);
}

TEST(weighted_sum_in_order) {
  const std::vector<float> losses = {1, 2, 3}, weights = {0.5f, 0, -1};
  CHECK_EQ(weighted_sum(3, losses.data(), weights.data()), -2.5);
  CHECK_EQ(weighted_sum(3, losses.data(), nullptr), 6.0);
}
