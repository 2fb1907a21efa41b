#include "native/kernels/latent_stats/latent_stats.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "native/core/thread_pool.h"
#include "test/native/check.h"
#include "test/native/kernels/latent_codes.h"
#include "test/native/kernels/variants.h"

using namespace personascope;
using check::Codes;

namespace {

bool same(const LatentStats& a, const LatentStats& b) {
  const LatentStatsState x = a.state(), y = b.state();
  return x.rows == y.rows && x.sum == y.sum && x.squares == y.squares && x.active == y.active &&
         x.max == y.max && x.wide_latents == y.wide_latents && x.wide_sums == y.wide_sums &&
         x.wide_squares == y.wide_squares && x.groups == y.groups && x.group_rows == y.group_rows &&
         x.part_begin == y.part_begin && x.part_groups == y.part_groups && x.parts == y.parts &&
         x.example_counts == y.example_counts && x.example_values == y.example_values &&
         x.example_groups == y.example_groups && x.example_ids == y.example_ids;
}

std::vector<GroupSum> group_sums(const LatentStats& stats, std::size_t latent) {
  std::vector<GroupSum> sums;
  stats.group_sums().of(latent, sums);
  return sums;
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
      CHECK_EQ(stats.sum(latent), sum);
      CHECK_EQ(stats.sum_of_squares(latent), squares);
      CHECK_EQ(stats.active_count(latent), active);
      CHECK_EQ(stats.max(latent), most);
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
      for (const auto& entry : group_sums(stats, latent)) {
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

TEST(every_variant_adds_the_same_numbers) {
  // Values in and out of the window, zeros of both signs, gaps between rows, and more codes than the kernel
  // gets at once; against fixed-point numbers added one at a time.
  constexpr std::size_t kLatents = 300, kRows = 900, kPitch = 24;
  const Philox random(9, 4);
  std::vector<std::uint32_t> indices(kRows * kPitch), counts(kRows);
  std::vector<float> values(kRows * kPitch);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto words = random.words(i);
    indices[i] = words[0] % kLatents;
    values[i] = std::ldexp(static_cast<float>((words[1] & 0x7fffff) | 0x800000),
                           static_cast<int>(words[2] % 53) - 50);
    if (words[3] % 50 == 0) values[i] = words[3] % 100 == 0 ? -0.0f : 0.0f;
    if (words[3] % 50 == 1) values[i] = std::ldexp(1.0f, words[3] % 100 == 1 ? 26 : -28);
  }
  for (bool odd : {true, false})
    for (bool gaps : {true, false}) {
      std::vector<float> taken = values;
      if (!odd)
        for (float& value : taken) value = LatentTotals::fits(value) ? value : 1.0f;
      for (std::size_t t = 0; t < kRows; ++t)
        counts[t] = gaps && t % 3 == 0 ? static_cast<std::uint32_t>(t % kPitch) : kPitch;
      std::vector<LatentTotals> wanted(kLatents);
      std::vector<std::uint64_t> active(kLatents);
      std::vector<float> most(kLatents);
      for (std::size_t t = 0; t < kRows; ++t)
        for (std::size_t c = t * kPitch; c < t * kPitch + counts[t]; ++c) {
          if (!(taken[c] > 0)) continue;
          if (LatentTotals::fits(taken[c])) wanted[indices[c]].add(taken[c]);
          ++active[indices[c]];
          most[indices[c]] = std::max(most[indices[c]], taken[c]);
        }
      check::each_isa([&](Isa) {
        LatentStats stats({kLatents});
        stats.add({kRows, indices.data(), taken.data(), nullptr, kPitch, counts.data()}, nullptr, nullptr);
        const LatentStatsState state = stats.state();
        for (std::size_t l = 0; l < kLatents; ++l) {
          CHECK(std::equal(wanted[l].sum.begin(), wanted[l].sum.end(), &state.sum[2 * l]));
          CHECK(std::equal(wanted[l].squares.begin(), wanted[l].squares.end(), &state.squares[3 * l]));
          CHECK_EQ(state.active[l], active[l]);
          CHECK_EQ(state.max[l], most[l]);
        }
      });
    }
}

TEST(digits_are_carried_in_time) {
  // More of the largest values than a record's digits take, all of one latent.
  const float value = 0x1.fffffep25f;
  constexpr std::uint32_t kCodes = 1 << 16, kRows = 600;
  static_assert(std::uint64_t{kCodes} * kRows > LatentRecord::kMostUnsettled);
  const std::vector<std::uint32_t> indices(kCodes, 1), counts(kRows, kCodes);
  const std::vector<float> values(kCodes, value);
  const unsigned __int128 mantissa = 0xffffff, codes = std::uint64_t{kCodes} * kRows;
  check::each_isa([&](Isa isa) {
    if (isa == Isa::reference) return;  // it takes a second
    LatentStats stats({2});
    stats.add({kRows, indices.data(), values.data(), nullptr, 0, counts.data()}, nullptr, nullptr);
    CHECK_EQ(stats.sum(1), std::ldexp(static_cast<double>(codes * mantissa), 2));
    CHECK_EQ(stats.sum_of_squares(1), std::ldexp(static_cast<double>(codes * mantissa * mantissa), 4));
    CHECK_EQ(stats.active_count(1), static_cast<double>(codes));
    CHECK_EQ(stats.sum(0), 0.0);
  });
}

TEST(sums_of_as_many_rows_as_there_may_be) {
  const float value = 0x1.fffffep25f;
  const std::uint32_t index = 0, count = 1;
  LatentStats stats({1});
  stats.add({1, &index, &value, nullptr, 1, &count}, nullptr, nullptr);
  for (int doubled = 1; doubled <= 40; ++doubled) {
    stats.merge(stats);
    CHECK_EQ(stats.sum(0), std::ldexp(static_cast<double>(value), doubled));
    CHECK_EQ(stats.sum_of_squares(0), std::ldexp(static_cast<double>(value) * value, doubled));
    CHECK(same(stats, LatentStats({1}, stats.state())));
  }
  CHECK_THROWS(stats.merge(stats), ErrorCode::invalid_argument);
  CHECK_THROWS(stats.add({1, &index, &value, nullptr, 1, &count}, nullptr, nullptr),
               ErrorCode::invalid_argument);
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
  const float negative[2] = {1, -1};
  CHECK_THROWS(stats.add({2, fine, negative, offsets, 0, nullptr}, groups, nullptr),
               ErrorCode::invalid_argument);
  CHECK_EQ(stats.rows(), 0u);
  CHECK_EQ(stats.sum(3), 0.0);
  CHECK(stats.group_rows().empty() && stats.group_sums().empty());
}

TEST(seven_uneven_parts_in_any_order_are_one_pass) {
  // Values over sixty orders of magnitude, so that no order of rounded additions would agree with another.
  Codes codes(700, 40, 8);
  const Philox random(77, 1);
  for (std::size_t i = 0; i < codes.values.size(); ++i)
    codes.values[i] =
        static_cast<float>((1 + random.uniform(2 * i)) *
                           std::ldexp(1.0, static_cast<int>(random.uniform(2 * i + 1) * (i % 3 ? 12 : 200)) -
                                               (i % 3 ? 6 : 120)));
  const LatentStatsOptions options{40, 3, false, true};
  const LatentStats whole = codes.stats(options, 700);
  const std::size_t ends[7] = {1, 13, 200, 201, 450, 699, 700};
  for (const std::vector<int>& order :
       {std::vector<int>{0, 1, 2, 3, 4, 5, 6}, {6, 2, 5, 0, 4, 1, 3}, {3, 3, 3, 3, 3, 3, 3}}) {
    LatentStats merged(options);
    std::set<int> seen;
    for (int part : order) {
      if (!seen.insert(part).second) continue;
      const std::size_t begin = part == 0 ? 0 : ends[part - 1];
      LatentStats one(options);
      // a part itself comes in batches
      for (std::size_t at = begin; at < ends[part]; at += 37)
        one.add(codes.view(at, std::min(ends[part], at + 37)), codes.groups.data() + at,
                codes.ids.data() + at);
      merged.merge(LatentStats(options, one.state()));  // by way of its plain arrays, as from a file
    }
    CHECK_EQ(same(merged, whole), order[0] != 3);
  }
}

TEST(sums_are_the_exact_ones_rounded_once) {
  struct Case {
    std::vector<float> values;
    double sum, squares;
  };
  const float tiny = std::numeric_limits<float>::denorm_min(), huge = std::numeric_limits<float>::max();
  const double unit = 0x1p-149;
  const std::vector<Case> cases = {
      {{1.5f, 2.25f}, 3.75, 7.3125},
      {{0x1p25f, 0x1p-27f, 0x1p-27f},
       0x1p25 + 0x1p-26,
       0x1p50},                                      // 2^50 + 2^-53: the small ones are lost in rounding
      {{1.0f, 0x1p-53f}, 1, 1},                      // a tie, to even
      {{1.0f, 0x1p-53f, tiny}, 1 + 0x1p-52, 1},      // just above the tie
      {{1.0f, 0x1p-52f, 0x1p-53f}, 1 + 0x1p-51, 1},  // a tie, to even: up
      {{tiny, tiny, tiny}, 3 * unit, 0},
      {{huge, huge}, 2.0 * huge, 2.0 * (static_cast<double>(huge) * huge)},
      {{huge, tiny, huge, 1.0f}, 2.0 * huge, 2.0 * (static_cast<double>(huge) * huge)},
      {{0.1f, 0.1f, 0.1f}, 3.0 * 0.1f, 0},
      {{0x1.fffffep25f, 0x1.fffffep-27f}, 0x1.fffffep25 + 0x1.fffffep-27, 0},
  };
  for (const Case& c : cases) {
    std::vector<float> values = c.values;
    std::sort(values.begin(), values.end());
    do {
      LatentStats stats({1, 0, false, true});
      for (float value : values) {
        const std::uint32_t index = 0, group = 5, offsets[2] = {0, 1};
        stats.add({1, &index, &value, offsets, 0, nullptr}, &group, nullptr);
      }
      CHECK_EQ(stats.sum(0), c.sum);
      CHECK_CLOSE(group_sums(stats, 0).at(0).sum, c.sum, 1e-15 * c.sum);
      if (c.squares > 0) CHECK_EQ(stats.sum_of_squares(0), c.squares);
    } while (std::next_permutation(values.begin(), values.end()));
  }
  // Against long double, whose 64 bits hold these sums exactly.
  const Philox random(5, 5);
  LatentStats stats({1, 0, false, false});
  long double sum = 0, squares = 0;
  for (std::uint64_t i = 0; i < 2000; ++i) {
    const auto value = static_cast<float>(1 + random.uniform(i));
    const std::uint32_t index = 0, offsets[2] = {0, 1};
    stats.add({1, &index, &value, offsets, 0, nullptr}, nullptr, nullptr);
    sum += value;
    squares += static_cast<long double>(value) * value;
  }
  CHECK_EQ(stats.sum(0), static_cast<double>(sum));
  CHECK_EQ(stats.sum_of_squares(0), static_cast<double>(squares));
}

TEST(many_codes_are_sorted_in_as_they_come) {
  // More than GroupSums gathers before it sorts, in random order, so that parts meet parts.
  GroupSums sums(50), sorted(50);
  const Philox random(6, 1);
  std::vector<double> expected(50 * 8);
  constexpr std::size_t kCodes = 9u << 20;
  for (std::size_t i = 0; i < kCodes; ++i) {
    const auto words = random.words(i);
    const std::uint32_t latent = words[0] % 50, group = words[1] % 8;
    const auto value = static_cast<float>(1 + words[2] % 1024) / 1024;
    sums.add(latent, group, value);
    sums.tidy();
    expected[latent * 8 + group] += value;
  }
  sums.settle();
  std::vector<GroupSum> found;
  for (std::size_t latent = 0; latent < 50; ++latent) {
    sums.of(latent, found);
    CHECK_EQ(found.size(), 8u);
    for (const GroupSum& one : found) CHECK_EQ(one.sum, expected[latent * 8 + one.group]);
  }
}

TEST(sums_of_many_latents_are_sorted_in_again_and_again) {
  // Latents of very different frequency, so that threads get ranges of different length; what was given out
  // stays as it was.
  constexpr std::uint32_t kLatents = 10'000, kGroups = 40;
  std::vector<GroupParts> first;
  for (const int threads : {1, 2, 5}) {
    set_thread_count(threads);
    GroupSums sums(kLatents);
    const Philox random(7, 1);
    std::map<std::pair<std::uint32_t, std::uint32_t>, double> expected;
    std::vector<GroupParts> kept, copies;
    std::uint64_t drawn = 0;
    for (int step = 0; step < 12; ++step) {
      const std::uint64_t codes = step % 4 == 3 ? 500 : 60'000;
      for (std::uint64_t i = 0; i < codes; ++i) {
        const auto words = random.words(drawn++);
        const double share = words[0] / 4294967296.0;
        const auto latent = static_cast<std::uint32_t>(kLatents * share * share * share);
        // Groups mostly rise, as prompts do.
        const std::uint32_t group =
            words[1] % 8 ? static_cast<std::uint32_t>(3 * step) + words[2] % 3 : words[2] % kGroups;
        const auto value = static_cast<float>(1 + words[3] % 1024) / 1024;
        sums.add(latent, group, value);
        expected[{latent, group}] += value;
      }
      sums.settle();
      if (step % 3 == 1) {
        kept.push_back(sums.parts());
        copies.push_back({kept.back().begin, kept.back().groups.slice(0, kept.back().groups.size()),
                          kept.back().parts.slice(0, kept.back().parts.size())});
      }
    }
    std::vector<GroupSum> found;
    std::size_t pairs = 0;
    for (std::uint32_t latent = 0; latent < kLatents; ++latent) {
      sums.of(latent, found);
      pairs += found.size();
      for (const GroupSum& one : found) CHECK_EQ(one.sum, (expected[{latent, one.group}]));
    }
    CHECK_EQ(pairs, expected.size());
    for (std::size_t i = 0; i < kept.size(); ++i) {
      CHECK(kept[i].groups == copies[i].groups && kept[i].parts == copies[i].parts);
      if (threads != 1) CHECK(kept[i].begin == first[i].begin && kept[i].parts == first[i].parts);
    }
    if (threads == 1) first = copies;
  }
  set_thread_count(2);
}

TEST(examples_of_chosen_latents) {
  const Codes codes(400, 50, 4);
  const LatentStats all = codes.stats({50, 3, false, false}, 400);
  const LatentStats some = codes.stats({50, 3, false, false, {2, 17, 49}}, 77);
  for (std::uint32_t latent = 0; latent < 50; ++latent) {
    const auto found = some.examples(latent), expected = all.examples(latent);
    const bool watched = latent == 2 || latent == 17 || latent == 49;
    CHECK_EQ(found.size(), watched ? expected.size() : 0u);
    for (std::size_t i = 0; i < found.size(); ++i)
      CHECK(found[i].value == expected[i].value && found[i].id == expected[i].id);
  }
  CHECK_THROWS(LatentStats({50, 3, false, false, {50}}), ErrorCode::invalid_argument);
  CHECK_THROWS(LatentStats({50, 3, false, false, {4, 4}}), ErrorCode::invalid_argument);
}

TEST(states_of_many_latents_are_the_same_in_one_piece) {
  const Codes codes(3000, 20'000, 5);
  const LatentStatsOptions options{20'000, 0, false, true};
  LatentStats stats = codes.stats(options, 400);
  const LatentStatsState before = stats.state();
  LatentStatsState joined = before;
  joined.part_groups = joined.part_groups.slice(0, joined.part_groups.size());
  joined.parts = joined.parts.slice(0, joined.parts.size());
  CHECK(same(stats, LatentStats(options, joined)));
  CHECK(same(stats, LatentStats(options, before)));
  // A state shares memory with the statistics, and stays what it was when they go on.
  stats.add(codes.view(0, 3000), codes.groups.data(), codes.ids.data());
  CHECK(!(stats.state().parts == before.parts));
  CHECK(before.parts == joined.parts);
  CHECK(same(codes.stats(options, 3000), LatentStats(options, before)));
}

TEST(damaged_states_are_refused) {
  const Codes codes(100, 30, 2);
  const LatentStatsOptions options{30, 2, false, true};
  const LatentStats stats = codes.stats(options, 100);
  CHECK(same(stats, LatentStats(options, stats.state())));
  const auto refused = [&](const std::function<void(LatentStatsState&)>& damage) {
    LatentStatsState state = stats.state();
    damage(state);
    CHECK_THROWS(LatentStats(options, state), ErrorCode::format);
  };
  refused([](auto& s) { s.rows = 3; });
  refused([](auto& s) { s.rows = ~std::uint64_t{0}; });
  refused([](auto& s) { s.sum.pop_back(); });
  refused([](auto& s) { s.max[0] = std::numeric_limits<float>::quiet_NaN(); });
  refused([](auto& s) { s.max[6] = 1; });  // never active
  refused([](auto& s) { s.sum[12] = 1; });
  refused([](auto& s) { s.sum[1] = ~std::uint64_t{0}; });  // above what so many values can reach
  refused([](auto& s) { s.squares[2] = ~std::uint64_t{0}; });
  refused([](auto& s) { s.active[0] = 101; });
  refused([](auto& s) { s.groups[1] = s.groups[0]; });
  refused([](auto& s) { s.group_rows[1] += 1; });
  refused([](auto& s) { s.part_begin[4] = ~std::uint64_t{0}; });
  refused([](auto& s) { s.part_begin.back() -= 1; });
  refused([](auto& s) {
    const auto all = s.part_groups.slice(0, s.part_groups.size());
    std::vector<std::uint32_t> groups(all.begin(), all.end());
    groups[0] = 7;
    s.part_groups = groups;
  });
  refused([](auto& s) {
    const auto all = s.parts.slice(0, s.parts.size());
    std::vector<float> parts(all.begin(), all.end());
    parts[0] = -1;
    s.parts = parts;
  });
  refused([](auto& s) { s.parts = {}; });
  refused([](auto& s) { s.example_counts[0] = 3; });
  refused([](auto& s) { s.example_values[0] = 0; });
  refused([](auto& s) { s.example_ids.clear(); });
  refused([](auto& s) { s.wide_latents = {30}; });
  refused([](auto& s) { s.wide_latents = {1}; });
}

TEST(group_sums_over_many_latents_sorted_in_at_any_time) {
  // More codes than one thread sorts in, more latents than are replaced together; groups come and come again.
  const std::size_t latents = 20000, rows = 12000;
  Codes codes(rows, latents, 21);
  const Philox random(5, 5);
  for (std::size_t t = 0; t < rows; ++t)
    codes.groups[t] = static_cast<std::uint32_t>(t / 40 % 200 + (random.uniform(t) < 0.1 ? 7 : 0));
  for (std::size_t i = 0; i < codes.values.size(); ++i)
    codes.values[i] = static_cast<float>(std::exp(8 * random.uniform(2 * i + 1)));
  std::map<std::pair<std::uint32_t, std::uint32_t>, double> expected;
  for (std::size_t t = 0; t < rows; ++t)
    for (std::size_t c = codes.offsets[t]; c < codes.offsets[t + 1]; ++c)
      expected[{codes.indices[c], codes.groups[t]}] += codes.values[c];
  const LatentStatsOptions options{latents, 0, false, true};
  const LatentStats whole = codes.stats(options, rows);
  std::size_t pairs = 0;
  for (std::uint32_t latent = 0; latent < latents; ++latent)
    for (const GroupSum& one : group_sums(whole, latent)) {
      const auto found = expected.find({latent, one.group});
      CHECK(found != expected.end());
      if (found == expected.end()) continue;
      CHECK_CLOSE(one.sum, found->second, 1e-12 * found->second);
      ++pairs;
    }
  CHECK_EQ(pairs, expected.size());
  const int threads = thread_count();
  for (int count : {1, 2, 5}) {
    set_thread_count(count);
    for (std::size_t step : {rows, rows / 2 + 1, rows / 7}) {
      LatentStats made(options);
      for (std::size_t begin = 0; begin < rows; begin += step) {
        const std::size_t end = std::min(rows, begin + step);
        made.add(codes.view(begin, end), codes.groups.data() + begin, nullptr);
        group_sums(made, 0);  // sorts in
      }
      CHECK(same(made, whole));
      LatentStats twice(options, made.state());
      twice.merge(whole);
      LatentStats other(options);
      other.merge(whole);
      other.merge(made);
      CHECK(same(twice, other));
    }
  }
  set_thread_count(threads);
}
