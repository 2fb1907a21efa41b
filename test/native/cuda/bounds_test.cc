// Screened intervals hold the canonical quantity: the code that the kernels run, on the host, over millions
// of pairs.
#include "cuda/shared/bounds.h"

#include <string>

#include "test/native/check.h"
#include "test/native/cuda/emulated.h"

using namespace emulated;

namespace {

// What selection compares: g, or g - max(threshold, 0), or p + gate bias (native/kernels/encode/screen.h).
double quantity(const Problem& problem, std::size_t latent, float product) {
  const Selection& s = problem.selection;
  if (s.rule == SelectionRule::gated) return static_cast<double>(product + s.gate_bias[latent]);
  const float h = product + problem.bias[latent];
  const float g = s.scale ? h * s.scale[latent] : h;
  const float threshold = s.rule == SelectionRule::threshold ? s.threshold[latent] : 0;
  return static_cast<double>(g) - std::max(threshold, 0.0f);
}

struct Outcome {
  std::size_t pairs = 0, outside = 0, empty = 0;
  double widest = 0;  // error / slack
};

void check_problem(const Problem& problem, DevicePrecision precision, Outcome& outcome) {
  const Screening screening(problem, precision);
  const std::size_t d = problem.width;
  for (std::size_t l = 0; l < problem.latents; ++l)
    for (std::size_t t = 0; t < problem.tokens; ++t) {
      const Interval interval = screening.interval(l, t);
      const double exact = quantity(problem, l, canonical(&problem.w[l * d], &problem.x[t * d], d));
      ++outcome.pairs;
      outcome.outside += !(interval.lower <= exact && exact <= interval.upper);
      outcome.empty += !(interval.lower < interval.upper);
      const double slack = (static_cast<double>(interval.upper) - interval.lower) / 2;
      outcome.widest = std::max(outcome.widest, std::fabs(exact - (interval.lower + slack)) / slack);
    }
}

}  // namespace

TEST(intervals_hold_the_canonical_value) {
  for (DevicePrecision precision : {DevicePrecision::bf16, DevicePrecision::int8}) {
    Outcome outcome;
    std::uint64_t seed = 1;
    for (std::size_t width : {1, 3, 64, 100, 512, 2048})
      for (double size : {1e-30, 1e-3, 1.0, 1e6})
        for (bool outlier : {false, true})
          check_problem(
              random_problem(width > 1000 ? 24 : 120, width, width > 1000 ? 24 : 120, ++seed, size, outlier),
              precision, outcome);
    CHECK(outcome.pairs > 500'000);
    CHECK_EQ(outcome.outside, 0u);
    CHECK_EQ(outcome.empty, 0u);
    // Bounds that hold because they are far too wide would be of no use.
    CHECK(outcome.widest > 0.2);
  }
}

TEST(intervals_of_every_rule) {
  Problem problem = random_problem(300, 96, 100, 5);
  std::vector<float> scale, threshold, gate, magnitude_scale, magnitude_bias;
  const Philox random(11, 0);
  for (std::size_t l = 0; l < problem.latents; ++l) {
    scale.push_back(static_cast<float>(std::fabs(random.gaussian(5 * l))));
    threshold.push_back(static_cast<float>(random.gaussian(5 * l + 1)));
    gate.push_back(static_cast<float>(random.gaussian(5 * l + 2)));
    magnitude_scale.push_back(static_cast<float>(random.gaussian(5 * l + 3)));
    magnitude_bias.push_back(static_cast<float>(random.gaussian(5 * l + 4)));
  }
  scale[7] = 0;
  for (DevicePrecision precision : {DevicePrecision::bf16, DevicePrecision::int8})
    for (SelectionRule rule :
         {SelectionRule::topk, SelectionRule::threshold, SelectionRule::gated, SelectionRule::groupmax})
      for (bool scaled : {false, true}) {
        if (scaled && rule == SelectionRule::gated) continue;
        problem.selection = {};
        problem.selection.rule = rule;
        problem.selection.scale = scaled ? scale.data() : nullptr;
        problem.selection.threshold = threshold.data();
        problem.selection.gate_bias = gate.data();
        problem.selection.magnitude_scale = magnitude_scale.data();
        problem.selection.magnitude_bias = magnitude_bias.data();
        Outcome outcome;
        check_problem(problem, precision, outcome);
        CHECK_EQ(outcome.outside, 0u);
      }
}

TEST(rows_that_are_hard_to_round) {
  Problem problem = random_problem(8, 64, 4, 3);
  const auto fill = [&](std::size_t latent, float value) {
    for (std::size_t i = 0; i < 64; ++i) problem.w[latent * 64 + i] = value;
  };
  fill(0, 0);
  fill(1, 1e-38f);
  fill(2, 1e-44f);
  fill(3, 3e20f);
  problem.w[4 * 64] = 1e10f;  // one value hides all others
  problem.w[5 * 64 + 1] = 1e-30f;
  for (std::size_t i = 0; i < 64; ++i) problem.x[i] = 0;
  problem.bias[0] = 0;
  for (DevicePrecision precision : {DevicePrecision::bf16, DevicePrecision::int8}) {
    Outcome outcome;
    check_problem(problem, precision, outcome);
    CHECK_EQ(outcome.outside, 0u);
    CHECK_EQ(outcome.empty, 0u);
  }
}

TEST(rounding_to_int8) {
  const Int8Scale scale = int8_scale(12.7f);
  CHECK_EQ(int8_round(12.7f, scale.inverse), 127);
  CHECK_EQ(int8_round(-12.7f, scale.inverse), -127);
  CHECK_EQ(int8_round(100, scale.inverse), 127);
  CHECK_EQ(int8_round(0.05f * 0.99f, scale.inverse), 0);
  CHECK(int8_scale(0).scale == 0 && int8_scale(1e-31f).inverse == 0);
  for (float value : {1.0f, 1.00390625f, 1.01171875f, -3.14159f, 1e-40f, 3.38e38f})
    CHECK_CLOSE(bf16_widen(bf16_round(value)), value, std::fabs(value) * 0x1p-8 + 1e-40);
}
