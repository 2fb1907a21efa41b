#include "native/kernels/latent_stats/difference.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "native/kernels/latent_stats/bootstrap.h"
#include "native/kernels/latent_stats/ranking.h"
#include "native/kernels/latent_stats/resample.h"
#include "native/kernels/latent_stats/student.h"
#include "test/native/check.h"
#include "test/native/kernels/latent_codes.h"
#include "test/native/kernels/variants.h"

using namespace personascope;
using check::Codes;

TEST(student_p_values) {
  // scipy.stats.t.sf(t, df) * 2
  CHECK_CLOSE(student_p(0, 5), 1, 1e-12);
  CHECK_CLOSE(student_p(2.0, 10), 0.07338803477074037, 1e-10);
  CHECK_CLOSE(student_p(-2.0, 10), 0.07338803477074037, 1e-10);
  CHECK_CLOSE(student_p(1.0, 1), 0.5, 1e-10);
  CHECK_CLOSE(student_p(5.0, 43), 1.0115e-5, 2e-8);
}

TEST(difference_means_errors_and_ranking) {
  const Codes a(600, 70, 5), b(600, 70, 6, 6), c(600, 70, 7, 6);
  const LatentStatsOptions options{70, 0, false, true};
  const LatentStats before = a.stats(options, 600), one = b.stats(options, 600), two = c.stats(options, 600);
  LatentDiffOptions how;
  how.resamples = 500;
  how.seed = 11;
  const LatentDiff diff = diff_latents(before, {&one, &two}, how);
  CHECK_EQ(diff.groups, 20u);
  CHECK_EQ(diff.alive, 60u);
  for (std::size_t l = 0; l < 70; ++l) {
    const double m0 = before.sum(l) / 600, m1 = one.sum(l) / 600, m2 = two.sum(l) / 600;
    CHECK_CLOSE(diff.delta[l], (m1 + m2) / 2 - m0, 1e-12);
    CHECK_CLOSE(diff.mean_before[l], m0, 1e-15);
    CHECK_CLOSE(diff.mean_after[l], (m1 + m2) / 2, 1e-14);
    CHECK_CLOSE(diff.share_after[l], (one.active_count(l) + two.active_count(l)) / 1200, 1e-15);
    if (l % 7 == 6) {
      CHECK(std::isnan(diff.p_value[l]) && std::isnan(diff.q_value[l]) && std::isnan(diff.low[l]));
      continue;
    }
    const double v0 = before.sum_of_squares(l) / 600 - m0 * m0, v1 = one.sum_of_squares(l) / 600 - m1 * m1,
                 v2 = two.sum_of_squares(l) / 600 - m2 * m2;
    CHECK_CLOSE(diff.effect_size[l], diff.delta[l] / std::sqrt((v0 + (v1 + v2) / 2) / 2), 1e-9);
    CHECK(diff.low[l] <= diff.delta[l] && diff.delta[l] <= diff.high[l]);
    // the bootstrap's spread agrees with the clustered standard error (normal quantile 1.96)
    CHECK_CLOSE((diff.high[l] - diff.low[l]) / (2 * 1.96), diff.standard_error[l],
                0.25 * diff.standard_error[l]);
    CHECK(diff.q_value[l] >= diff.p_value[l] && diff.q_value[l] <= 1);
    if (l % 5 == 0) CHECK(diff.q_value[l] < 0.05);
  }
  for (std::size_t i = 1; i < 70; ++i) {
    const auto high = diff.descending[i - 1], low = diff.descending[i];
    CHECK(diff.delta[high] > diff.delta[low] || (diff.delta[high] == diff.delta[low] && high < low));
    const auto small = diff.ascending[i - 1], large = diff.ascending[i];
    CHECK(diff.delta[small] < diff.delta[large] || (diff.delta[small] == diff.delta[large] && small < large));
  }
  const int threads = thread_count();
  for (int count : {1, 2, 5}) {
    set_thread_count(count);
    const LatentDiff again = diff_latents(before, {&one, &two}, how);
    for (std::size_t l = 0; l < 70; ++l)
      if (l % 7 != 6)
        CHECK(again.low[l] == diff.low[l] && again.high[l] == diff.high[l] &&
              again.q_value[l] == diff.q_value[l]);
  }
  set_thread_count(threads);
}

TEST(standard_error_against_the_paired_t_test) {
  // One row a group in both models: clustered errors are those of the paired t-test.
  LatentStats before({3, 0, false, true}), after({3, 0, false, true});
  const std::size_t n = 12;
  std::vector<double> change;
  for (std::uint32_t g = 0; g < n; ++g) {
    const std::uint32_t index[1] = {1}, offsets[2] = {0, 1};
    const float x[1] = {1.0f + static_cast<float>(g * g % 7)}, y[1] = {2.5f + static_cast<float>(g * 5 % 11)};
    before.add({1, index, x, offsets, 0, nullptr}, &g, nullptr);
    after.add({1, index, y, offsets, 0, nullptr}, &g, nullptr);
    change.push_back(y[0] - x[0]);
  }
  double mean = 0, variance = 0;
  for (double v : change) mean += v / n;
  for (double v : change) variance += (v - mean) * (v - mean) / (n - 1);
  const LatentDiff diff = diff_latents(before, {&after}, {});
  CHECK_CLOSE(diff.delta[1], mean, 1e-12);
  CHECK_CLOSE(diff.standard_error[1], std::sqrt(variance / n), 1e-12);
  CHECK_CLOSE(diff.p_value[1], student_p(mean / std::sqrt(variance / n), n - 1), 1e-12);
  CHECK_EQ(diff.q_value[1], diff.p_value[1]);  // the only alive latent
}

TEST(what_cannot_be_compared) {
  LatentStats a({3, 0, false, false}), b({4, 0, false, false});
  CHECK_THROWS(diff_latents(a, {&b}, {}), ErrorCode::invalid_argument);
  CHECK_THROWS(diff_latents(a, {&a}, {}), ErrorCode::invalid_argument);  // no rows
  const std::uint32_t index[1] = {1}, offsets[2] = {0, 1};
  const float x[1] = {2};
  a.add({1, index, x, offsets, 0, nullptr}, nullptr, nullptr);
  const LatentDiff diff = diff_latents(a, {&a}, {});
  CHECK(diff.delta[1] == 0 && std::isnan(diff.p_value[1]) && std::isnan(diff.low[1]));  // no groups, no test
}

TEST(welch_against_its_formula) {
  // One row a group, so that group sums are the rows themselves.
  LatentStats before({2, 0, false, true}), after({2, 0, false, true});
  const std::size_t n = 15;
  std::vector<double> x, y;
  for (std::uint32_t g = 0; g < n; ++g) {
    const std::uint32_t index[1] = {0}, offsets[2] = {0, 1};
    const float a[1] = {1.0f + static_cast<float>(g * g % 11)},
                b[1] = {4.0f + static_cast<float>(g * 7 % 13) / 4};
    before.add({1, index, a, offsets, 0, nullptr}, &g, nullptr);
    after.add({1, index, b, offsets, 0, nullptr}, &g, nullptr);
    x.push_back(a[0]);
    y.push_back(b[0]);
  }
  const auto moments = [&](const std::vector<double>& v) {
    double mean = 0, variance = 0;
    for (double one : v) mean += one / n;
    for (double one : v) variance += (one - mean) * (one - mean) / (n - 1);
    return std::pair(mean, variance / n);
  };
  const auto [mx, vx] = moments(x);
  const auto [my, vy] = moments(y);
  LatentDiffOptions how;
  how.test = DiffTest::welch;
  const LatentDiff diff = diff_latents(before, {&after}, how);
  const double df = (vx + vy) * (vx + vy) / (vx * vx / (n - 1) + vy * vy / (n - 1));
  CHECK_CLOSE(diff.standard_error[0], std::sqrt(vx + vy), 1e-12);
  CHECK_CLOSE(diff.p_value[0], student_p((my - mx) / std::sqrt(vx + vy), df), 1e-12);
  CHECK(std::isnan(diff.p_value[1]));
}

TEST(permutation_against_all_sign_flips) {
  LatentStats before({1, 0, false, true}), after({1, 0, false, true});
  const std::size_t n = 10;
  std::vector<double> change;
  for (std::uint32_t g = 0; g < n; ++g) {
    const std::uint32_t index[1] = {0}, offsets[2] = {0, 1};
    const float a[1] = {3.0f + static_cast<float>(g * g % 7)}, b[1] = {4.0f + static_cast<float>(g * 3 % 11)};
    before.add({1, index, a, offsets, 0, nullptr}, &g, nullptr);
    after.add({1, index, b, offsets, 0, nullptr}, &g, nullptr);
    change.push_back(b[0] - a[0]);
  }
  double total = 0;
  for (double one : change) total += one;
  int extreme = 0;
  for (unsigned signs = 0; signs < 1u << n; ++signs) {
    double sum = 0;
    for (std::size_t g = 0; g < n; ++g) sum += signs >> g & 1 ? change[g] : -change[g];
    extreme += std::fabs(sum) >= std::fabs(total) - 1e-9;
  }
  const double exact = extreme / 1024.0;
  LatentDiffOptions how;
  how.test = DiffTest::permutation;
  how.permutations = 40000;
  const LatentDiff diff = diff_latents(before, {&after}, how);
  // four standard deviations of the share of 40000 draws
  CHECK_CLOSE(diff.p_value[0], exact, 4 * std::sqrt(exact * (1 - exact) / 40000) + 1e-4);
  how.permutations = 99;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    how.seed = seed;
    CHECK(diff_latents(before, {&after}, how).p_value[0] >= 0.01);
  }
}

TEST(resampled_sums_are_the_same_bits_everywhere) {
  const Philox random(9, 9);
  for (std::size_t entries : {0u, 1u, 2u, 7u, 44u})
    for (std::size_t resamples : {64u, 128u, 1024u}) {
      std::vector<double> sums(entries);
      std::vector<std::uint16_t> table(entries * resamples);
      std::vector<const std::uint16_t*> counts;
      for (std::size_t e = 0; e < entries; ++e) {
        sums[e] = random.gaussian(e) * std::ldexp(1.0, static_cast<int>(e % 40));
        counts.push_back(table.data() + e * resamples);
        for (std::size_t r = 0; r < resamples; ++r)
          table[e * resamples + r] =
              static_cast<std::uint16_t>(r % 7 == 0 ? 65535 - r : random.words(e * resamples + r)[0] % 5);
      }
      std::vector<double> expected(resamples);
      for (std::size_t r = 0; r < resamples; ++r)
        for (std::size_t e = 0; e < entries; ++e) expected[r] += table[e * resamples + r] * sums[e];
      check::each_isa([&](Isa isa) {
        std::vector<double> found(resamples, -1);
        resample_variants().at(isa)({sums.data(), counts.data(), entries, resamples, found.data()});
        CHECK(found == expected);
      });
    }
}

TEST(quantiles_against_sorting) {
  const Philox random(4, 2);
  std::vector<double> scratch;
  for (std::size_t count : {1u, 2u, 255u, 256u, 1000u, 2001u})
    for (int kind = 0; kind < 4; ++kind)
      for (double share : {0.001, 0.025, 0.1, 0.4}) {
        std::vector<double> values(count);
        for (std::size_t i = 0; i < count; ++i)
          values[i] = kind == 0   ? random.gaussian(i)
                      : kind == 1 ? std::floor(random.uniform(i) * 3)  // many ties
                      : kind == 2 ? static_cast<double>(i)  // already in order: the sample is skewed
                                  : (i % 97 == 0 ? 1e9 : 0.0);
        std::vector<double> sorted = values;
        std::sort(sorted.begin(), sorted.end());
        const auto expected = [&](double at) {
          const double place = at * static_cast<double>(count - 1);
          const auto below = static_cast<std::size_t>(place);
          const double part = place - static_cast<double>(below);
          return part > 0 ? sorted[below] + part * (sorted[below + 1] - sorted[below]) : sorted[below];
        };
        double low = 0, high = 0;
        quantile_pair(values.data(), count, share, 1 - share, low, high, scratch);
        CHECK_EQ(low, expected(share));
        CHECK_EQ(high, expected(1 - share));
      }
}

TEST(draws) {
  const DrawTable table = draw_bootstrap(7, 100, 3);
  for (std::size_t r = 0; r < table.stride; ++r) {
    unsigned total = 0;
    for (std::size_t g = 0; g < 7; ++g) total += table.row(g)[r];
    CHECK_EQ(total, r < 100 ? 7u : 0u);
  }
  DrawTable some = table;
  std::vector<bool> keep(100);
  keep[3] = keep[50] = true;
  keep_resamples(some, keep);
  CHECK_EQ(some.resamples, 2u);
  for (std::size_t g = 0; g < 7; ++g)
    CHECK(some.row(g)[0] == table.row(g)[3] && some.row(g)[1] == table.row(g)[50] && some.row(g)[2] == 0);
  CHECK_THROWS(draw_bootstrap(1 << 20, 100000, 0), ErrorCode::invalid_argument);
}

TEST(rankings) {
  const double nan = std::nan("");
  const double values[7] = {2, nan, -0.0, 5, 0.0, 2, -1};
  CHECK((ranking(values, 7, true) == std::vector<std::uint32_t>{3, 0, 5, 2, 4, 6, 1}));
  CHECK((ranking(values, 7, false) == std::vector<std::uint32_t>{6, 2, 4, 0, 5, 3, 1}));
}
