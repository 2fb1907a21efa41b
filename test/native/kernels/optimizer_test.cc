#include "native/kernels/optimizer/optimizer.h"

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

TEST(steps_of_adamw_follow_the_formula_in_double) {
  check::each_isa([](Isa) {
    for (std::size_t count : {1, 7, 8, 15, 17, 33, 1000, 40001}) {
      bool same = true;
      const auto found = check::each_thread_count(
          [&] {
            auto p = check::normal(count, 1);
            std::vector<float> m(count), v(count);
            for (std::int64_t step = 1; step <= 4; ++step) {
              const auto g = check::normal(count, 10 + static_cast<std::uint64_t>(step), 2);
              AdamWArgs a;
              a.count = count;
              a.params = p.data();
              a.grads = g.data();
              a.m = m.data();
              a.v = v.data();
              a.lr = 3e-3;
              a.beta2 = 0.95;
              a.weight_decay = 0.1;
              a.step = step;
              a.grad_scale = 0.5;
              adamw_step(a);
            }
            p.insert(p.end(), m.begin(), m.end());
            p.insert(p.end(), v.begin(), v.end());
            return p;
          },
          same);
      CHECK(same);
      const auto start = check::normal(count, 1);
      std::vector<std::vector<float>> gradients;
      for (std::uint64_t step = 1; step <= 4; ++step) gradients.push_back(check::normal(count, 10 + step, 2));
      for (std::size_t i = 0; i < count; ++i) {
        double p = start[i], m = 0, v = 0;
        for (int step = 1; step <= 4; ++step) {
          const double g = 0.5 * gradients[static_cast<std::size_t>(step - 1)][i];
          p *= 1 - 3e-3 * 0.1;
          m = 0.9 * m + 0.1 * g;
          v = 0.95 * v + 0.05 * g * g;
          p -= 3e-3 * (m / (1 - std::pow(0.9, step))) / (std::sqrt(v / (1 - std::pow(0.95, step))) + 1e-8);
        }
        CHECK_CLOSE(found[i], p, 2e-6 * (1 + std::fabs(p)));
        CHECK_CLOSE(found[count + i], m, 1e-6);
        CHECK_CLOSE(found[2 * count + i], v, 1e-6 * (1 + v));
      }
    }
  });
}

TEST(no_gradient_only_decays) {
  check::each_isa([](Isa) {
    std::vector<float> p(20, 2.0f), g(20), m(20), v(20);
    AdamWArgs a;
    a.count = 20;
    a.params = p.data();
    a.grads = g.data();
    a.m = m.data();
    a.v = v.data();
    a.lr = 0.1;
    a.weight_decay = 0.5;
    adamw_step(a);
    for (float value : p) CHECK_CLOSE(value, 1.9, 1e-6);
  });
}

TEST(sum_of_squares_in_double) {
  check::each_isa([](Isa) {
    for (std::size_t count : {0, 1, 15, 17, 16384, 16385, 100003}) {
      const auto x = check::normal(count + 1, 3, 1e3);
      double expected = 0;
      for (std::size_t i = 0; i < count; ++i) expected += static_cast<double>(x[i]) * x[i];
      double first = 0;
      for (int threads : {1, 2, 5}) {
        set_thread_count(threads);
        const double found = sum_of_squares(count, x.data());
        if (threads == 1) first = found;
        CHECK_EQ(found, first);
        CHECK_CLOSE(found, expected, 1e-12 * expected);
      }
      set_thread_count(1);
    }
    const std::vector<float> huge(100, 1e30f);  // its square is no fp32 number
    CHECK_CLOSE(sum_of_squares(100, huge.data()), 1e62, 1e56);
  });
}

TEST(wrong_constants_are_errors) {
  AdamWArgs a;
  a.step = 0;
  CHECK_THROWS(adamw_step(a), ErrorCode::invalid_argument);
  a.step = 1;
  a.beta1 = 1;
  CHECK_THROWS(adamw_step(a), ErrorCode::invalid_argument);
}
