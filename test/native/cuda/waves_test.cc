// Waves and selection as the device's engine runs them, emulated on the host against a full sort.
#include "cuda/shared/waves.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "cuda/shared/order.h"
#include "test/native/check.h"
#include "test/native/cuda/emulated.h"

using namespace emulated;

namespace {

struct Entry {
  float lower, upper;
  std::uint32_t latent;
};

// One token's way through run_segment() and settle_kernel(); lists are bounded as on the device.
struct Emulation {
  const Screening& screening;
  std::size_t token;
  std::uint32_t k, capacity;
  float threshold = kLeastPositive;
  std::vector<Entry> list;
  std::size_t kept = 0, overflows = 0, waves = 0;

  void raise() {
    if (list.size() < k) return;
    std::vector<float> lower;
    for (const Entry& entry : list) lower.push_back(entry.lower);
    std::nth_element(lower.begin(), lower.begin() + (k - 1), lower.end(), std::greater<>());
    threshold = std::max(threshold, lower[k - 1]);
  }
  void drop() {
    std::erase_if(list, [&](const Entry& entry) { return !(entry.upper >= threshold); });
  }
  void rescore(float least) {
    for (Entry& entry : list)
      if (entry.lower != entry.upper && entry.lower >= least)
        entry.lower = entry.upper = screening.score(entry.latent, token).score;
  }
  void keep_codes() {
    std::erase_if(list, [](const Entry& entry) { return !(entry.lower > 0); });
    std::sort(list.begin(), list.end(), [](const Entry& a, const Entry& b) {
      return choice_key(a.lower, a.latent) > choice_key(b.lower, b.latent);
    });
    if (k > 0 && list.size() > k) list.resize(k);
  }
  // 0 trim, 1 sharpen, 2 resolve
  void settle(int mode) {
    bool certain = mode == 2 || k == 0;
    if (k > 0) {
      raise();
      drop();
      if (mode > 0) {
        rescore(threshold);
        raise();
        drop();
      }
      certain = certain || list.size() > capacity / 2;
    }
    if (certain) {
      rescore(-INFINITY);
      if (k > 0) raise();
      keep_codes();
    }
    kept = list.size();
  }

  std::vector<Entry> run(std::uint64_t begin, std::uint64_t end, std::uint64_t tile) {
    std::vector<Entry> codes;
    WavePlan plan(begin, end, capacity, tile);
    std::vector<int> seen(end - begin);
    while (!plan.done()) {
      ++waves;
      const std::uint64_t from = plan.begin(), to = plan.end();
      CHECK(from < to && to <= end);
      if (tile) CHECK(from / tile == (to - 1) / tile);
      std::size_t count = list.size();
      for (std::uint64_t l = from; l < to; ++l) {
        const Interval interval = screening.interval(l, token);
        if (!(interval.upper >= threshold)) continue;
        if (count++ < capacity)
          list.push_back({interval.lower, interval.upper, static_cast<std::uint32_t>(l)});
      }
      if (count > capacity) {
        ++overflows;
        if (k > 0) raise();
        list.resize(kept);
        plan.overflowed();
        continue;
      }
      for (std::uint64_t l = from; l < to; ++l) ++seen[l - begin];
      const auto fresh = static_cast<std::uint32_t>(count - kept);
      settle(to == end || k == 0 || tile ? 2 : (to - begin) * 64 >= end - begin ? 1 : 0);
      CHECK(k == 0 || list.size() <= capacity / 2);
      if (k == 0 || to == end) {
        codes.insert(codes.end(), list.begin(), list.end());
        list.clear();
        kept = 0;
      }
      plan.settled(fresh, static_cast<std::uint32_t>(list.size()));
    }
    for (int times : seen) CHECK_EQ(times, 1);
    return codes;
  }
};

// Index sets of token t, by a full sort.
std::vector<std::uint32_t> wanted(const Problem& problem, const Screening& screening, std::size_t t,
                                  std::size_t k) {
  std::vector<std::uint64_t> keys;
  for (std::size_t l = 0; l < problem.latents; ++l) {
    const float score = screening.score(l, t).score;
    if (score > 0) keys.push_back(choice_key(score, static_cast<std::uint32_t>(l)));
  }
  std::sort(keys.rbegin(), keys.rend());
  if (k > 0 && keys.size() > k) keys.resize(k);
  std::vector<std::uint32_t> latents;
  for (std::uint64_t key : keys) latents.push_back(0xFFFFFFFFu - static_cast<std::uint32_t>(key));
  std::sort(latents.begin(), latents.end());
  return latents;
}

std::size_t check_selection(const Problem& problem, std::uint32_t k, std::uint32_t capacity,
                            std::uint64_t tile, const std::string& name) {
  std::size_t overflows = 0;
  for (DevicePrecision precision : {DevicePrecision::bf16, DevicePrecision::int8}) {
    const Screening screening(problem, precision);
    for (std::size_t t = 0; t < problem.tokens; ++t) {
      Emulation emulation{screening, t, k, capacity, k ? kLeastPositive : 0.0f, {}};
      std::vector<std::uint32_t> found;
      for (const Entry& code : emulation.run(0, problem.latents, tile)) found.push_back(code.latent);
      std::sort(found.begin(), found.end());
      if (found != wanted(problem, screening, t, k))
        check::report(__FILE__, __LINE__, name + ": another set");
      overflows += emulation.overflows;
    }
  }
  return overflows;
}

}  // namespace

TEST(selection_is_exact) {
  for (std::uint32_t k : {1u, 5u, 32u})
    for (std::uint64_t tile : {0u, 300u})
      check_selection(random_problem(5000, 48, 6, k), k, 256, tile, "random");
}

TEST(rising_scores_overflow_and_stay_exact) {
  // Waves have grown long over latents that never fire; then each latent beats all before it.
  Problem problem = random_problem(4000, 16, 2, 9);
  for (std::size_t l = 0; l < problem.latents; ++l) {
    for (std::size_t i = 0; i < 16; ++i) problem.w[l * 16 + i] = 0;
    problem.bias[l] = l < 2000 ? -1.0f : static_cast<float>(l);
  }
  CHECK(check_selection(problem, 8, 64, 0, "rising") > 0);
}

TEST(mass_ties) {
  Problem problem = random_problem(3000, 16, 2, 10);
  for (std::size_t l = 1; l < problem.latents; ++l) {
    for (std::size_t i = 0; i < 16; ++i) problem.w[l * 16 + i] = problem.w[i];
    problem.bias[l] = problem.bias[0] = 100;
  }
  check_selection(problem, 8, 64, 0, "ties");
  check_selection(problem, 8, 64, 500, "ties, streamed");
}

TEST(every_certain_one) {
  Problem problem = random_problem(3000, 32, 4, 11);
  std::vector<float> threshold(problem.latents, 1.5f);
  threshold[17] = -4;
  problem.selection.rule = SelectionRule::threshold;
  problem.selection.threshold = threshold.data();
  check_selection(problem, 0, 128, 0, "threshold");
  check_selection(problem, 0, 128, 700, "threshold, streamed");
  // Half of all latents are codes: far more than a list takes.
  std::fill(threshold.begin(), threshold.end(), 0.0f);
  check_selection(problem, 0, 64, 0, "dense");
}

TEST(nothing_is_positive) {
  Problem problem = random_problem(1000, 8, 2, 12);
  for (float& value : problem.bias) value = -1000;
  check_selection(problem, 4, 64, 0, "none");
}

TEST(waves_grow) {
  WavePlan plan(0, 1 << 21, 8192);
  std::size_t waves = 0;
  for (; !plan.done(); ++waves) plan.settled(300, 300);
  CHECK(waves <= 10);
  // What cannot have happened is an internal error, not an endless loop.
  WavePlan broken(0, 1 << 21, 64);
  CHECK_THROWS(
      [&] {
        for (int i = 0; i < 100; ++i) broken.overflowed();
      }(),
      ErrorCode::internal);
}
