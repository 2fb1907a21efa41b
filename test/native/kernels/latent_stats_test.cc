#include "native/kernels/latent_stats/latent_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "native/kernels/latent_stats/difference.h"
#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

namespace {

struct Codes {
  std::size_t latents;
  std::vector<std::uint32_t> indices, offsets = {0}, groups;
  std::vector<float> values;
  std::vector<double> ids;
  Codes(std::size_t rows, std::size_t latents_, std::uint64_t seed, double shift = 0) : latents(latents_) {
    const Philox random(seed, 3);
    std::uint64_t draw = 0;
    for (std::size_t t = 0; t < rows; ++t) {
      groups.push_back(static_cast<std::uint32_t>(100 + t / 3 % 20));
      ids.push_back(1e9 - static_cast<double>(t));
      std::set<std::uint32_t> seen;
      for (int c = 0; c < 5; ++c) seen.insert(static_cast<std::uint32_t>(random.uniform(draw++) * latents));
      for (std::uint32_t latent : seen) {
        if (latent % 7 == 6) continue;  // never active
        indices.push_back(latent);
        // few distinct values, so that there are ties
        values.push_back(
            static_cast<float>(std::floor(random.uniform(draw++) * 8) + 1 + (latent % 5 == 0 ? shift : 0)));
      }
      offsets.push_back(static_cast<std::uint32_t>(indices.size()));
    }
  }
  std::size_t rows() const { return groups.size(); }
  CodesView view(std::size_t begin, std::size_t end) const {
    return {end - begin, indices.data(), values.data(), offsets.data() + begin, 0, nullptr};
  }
  LatentStats stats(const LatentStatsOptions& options, std::size_t step) const {
    LatentStats made(options);
    for (std::size_t begin = 0; begin < rows(); begin += step) {
      const std::size_t end = std::min(rows(), begin + step);
      made.add(view(begin, end), groups.data() + begin, ids.data() + begin);
    }
    return made;
  }
};

bool same(const LatentStats& a, const LatentStats& b) {
  if (a.rows() != b.rows() || a.sum() != b.sum() || a.sum_of_squares() != b.sum_of_squares() ||
      a.active_count() != b.active_count() || a.max() != b.max() || a.group_rows() != b.group_rows())
    return false;
  for (std::size_t l = 0; l < a.options().latents; ++l) {
    const auto left = a.examples(l), right = b.examples(l);
    if (!std::equal(left.begin(), left.end(), right.begin(), right.end(), [](const auto& x, const auto& y) {
          return x.value == y.value && x.id == y.id && x.group == y.group;
        }))
      return false;
  }
  return std::equal(a.group_sums().begin(), a.group_sums().end(), b.group_sums().begin(),
                    b.group_sums().end(), [](const auto& x, const auto& y) {
                      return x.latent == y.latent && x.group == y.group && x.sum == y.sum;
                    });
}

}  // namespace

TEST(against_a_plain_computation) {
  const Codes codes(500, 50, 1);
  for (bool distinct : {false, true}) {
    const LatentStatsOptions options{50, 4, distinct, true};
    const LatentStats stats = codes.stats(options, 500);
    for (std::uint32_t latent = 0; latent < 50; ++latent) {
      double sum = 0, squares = 0, active = 0;
      float most = 0;
      std::vector<LatentExample> all;
      std::map<std::uint32_t, double> groups;
      for (std::size_t t = 0; t < codes.rows(); ++t)
        for (std::size_t c = codes.offsets[t]; c < codes.offsets[t + 1]; ++c) {
          if (codes.indices[c] != latent) continue;
          const float v = codes.values[c];
          sum += v;
          squares += static_cast<double>(v) * v;
          ++active;
          most = std::max(most, v);
          all.push_back({v, codes.groups[t], codes.ids[t]});
          groups[codes.groups[t]] += v;
        }
      CHECK_EQ(stats.sum()[latent], sum);
      CHECK_EQ(stats.sum_of_squares()[latent], squares);
      CHECK_EQ(stats.active_count()[latent], active);
      CHECK_EQ(stats.max()[latent], most);
      std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) {
        return a.value != b.value ? a.value > b.value : a.id < b.id;
      });
      std::vector<LatentExample> wanted;
      std::set<std::uint32_t> taken;
      for (const auto& e : all)
        if (wanted.size() < 4 && (!distinct || taken.insert(e.group).second)) wanted.push_back(e);
      const auto found = stats.examples(latent);
      CHECK_EQ(found.size(), wanted.size());
      for (std::size_t i = 0; i < std::min(found.size(), wanted.size()); ++i) {
        CHECK_EQ(found[i].value, wanted[i].value);
        CHECK_EQ(found[i].id, wanted[i].id);
        CHECK_EQ(found[i].group, wanted[i].group);
      }
      for (const auto& entry : stats.group_sums())
        if (entry.latent == latent) {
          CHECK_EQ(entry.sum, groups[entry.group]);
          groups.erase(entry.group);
        }
      CHECK(groups.empty());
    }
    CHECK_EQ(stats.group_rows().size(), 20u);
    CHECK_EQ(stats.group_rows().at(100), 27u);
  }
}

TEST(threads_and_batches_change_nothing) {
  const Codes codes(12000, 300, 2);
  const LatentStatsOptions options{300, 6, true, true};
  const int before = thread_count();
  set_thread_count(1);
  const LatentStats whole = codes.stats(options, 12000);
  for (int threads : {1, 2, 5})
    for (std::size_t step : {12000, 9000, 77, 1}) {
      set_thread_count(threads);
      CHECK(same(whole, codes.stats(options, step)));
    }
  set_thread_count(before);
}

TEST(merging_two_halves) {
  const Codes codes(400, 60, 3);
  const LatentStatsOptions options{60, 5, true, true};
  LatentStats first(options), second(options);
  first.add(codes.view(0, 150), codes.groups.data(), codes.ids.data());
  second.add(codes.view(150, 400), codes.groups.data() + 150, codes.ids.data() + 150);
  first.merge(second);
  CHECK(same(first, codes.stats(options, 400)));  // whole numbers: sums are exact in any order
  CHECK_THROWS(first.merge(LatentStats({61, 5, true, true})), ErrorCode::invalid_argument);
}

TEST(bad_codes_change_nothing) {
  LatentStats stats({10, 2, false, true});
  const std::uint32_t indices[2] = {3, 10}, offsets[3] = {0, 1, 2}, groups[2] = {0, 1};
  const float values[2] = {1, 1}, broken[2] = {1, std::numeric_limits<float>::quiet_NaN()};
  const std::uint32_t fine[2] = {3, 9};
  CHECK_THROWS(stats.add({2, indices, values, offsets, 0, nullptr}, groups, nullptr),
               ErrorCode::invalid_argument);
  CHECK_THROWS(stats.add({2, fine, broken, offsets, 0, nullptr}, groups, nullptr), ErrorCode::non_finite);
  CHECK_THROWS(stats.add({2, fine, values, offsets, 0, nullptr}, nullptr, nullptr),
               ErrorCode::invalid_argument);
  CHECK_EQ(stats.rows(), 0u);
  CHECK_EQ(stats.sum()[3], 0.0);
  CHECK(stats.group_rows().empty() && stats.group_sums().empty());
}

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
    const double m0 = before.sum()[l] / 600, m1 = one.sum()[l] / 600, m2 = two.sum()[l] / 600;
    CHECK_CLOSE(diff.delta[l], (m1 + m2) / 2 - m0, 1e-12);
    if (l % 7 == 6) {
      CHECK(std::isnan(diff.p_value[l]) && std::isnan(diff.q_value[l]) && std::isnan(diff.low[l]));
      continue;
    }
    const double v0 = before.sum_of_squares()[l] / 600 - m0 * m0,
                 v1 = one.sum_of_squares()[l] / 600 - m1 * m1, v2 = two.sum_of_squares()[l] / 600 - m2 * m2;
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
