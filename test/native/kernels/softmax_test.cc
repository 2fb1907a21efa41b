#include "native/kernels/softmax/softmax.h"

#include <cmath>
#include <vector>

#include "native/core/random.h"
#include "test/native/check.h"

using namespace personascope;

TEST(exponentials_and_maximum_against_double) {
  const Philox random(1, 2);
  for (Isa isa : kAllIsas) {
    if (!cpu_has(isa)) continue;
    const auto& kernels = softmax_variants().at(isa);
    for (std::size_t count : {1, 3, 7, 8, 15, 16, 17, 31, 32, 33, 63, 65, 600, 1001}) {
      for (float scale : {1.0f, 0.25f, 3.0f}) {
        std::vector<float> x(count), y(count + 1, -7.0f);
        for (std::size_t i = 0; i < count; ++i)
          x[i] = static_cast<float>(12 * random.gaussian(count * 1000 + i));
        if (count > 5) x[4] = -1e30f;
        float most = x[0];
        for (float value : x) most = value > most ? value : most;
        CHECK(kernels.maximum(x.data(), count) == most);
        const float sum = kernels.exponentials(x.data(), count, most, scale, y.data());
        double expected = 0, worst = 0;
        for (std::size_t i = 0; i < count; ++i) {
          const double exact = std::exp((double(x[i]) - most) * scale);
          // The argument is rounded to fp32 before the exponential: that much relative error is inherent.
          const double slack = 2e-6 + 1.2e-7 * std::fabs((double(x[i]) - most) * scale);
          worst = std::max(worst, std::fabs(y[i] - exact) - slack * exact - 1e-30);
          expected += exact;
        }
        CHECK(worst <= 0);
        CHECK_CLOSE(sum, expected, 1e-5 * expected);
        CHECK(y[count] == -7.0f);
      }
    }
  }
}

TEST(what_is_not_finite_shows_in_the_sum) {
  for (Isa isa : kAllIsas) {
    if (!cpu_has(isa)) continue;
    const auto& kernels = softmax_variants().at(isa);
    for (float bad : {std::nanf(""), INFINITY}) {
      for (std::size_t at : {0, 5, 16, 40, 49}) {
        std::vector<float> x(50, 1.0f), y(50);
        x[at] = bad;
        const float most = kernels.maximum(x.data(), x.size());
        CHECK(!std::isfinite(kernels.exponentials(x.data(), x.size(), most, 1, y.data())));
      }
    }
  }
}
