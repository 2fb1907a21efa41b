#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "native/core/column.h"
#include "native/core/isa.h"
#include "native/core/mapped_file.h"
#include "native/core/paged_buffer.h"
#include "native/core/paged_vector.h"
#include "native/core/random.h"
#include "native/core/spares.h"
#include "native/core/thread_pool.h"
#include "test/native/check.h"

using namespace personascope;

TEST(parallel_for_covers_every_index_once) {
  for (int threads : {1, 2, 5}) {
    set_thread_count(threads);
    for (std::size_t count : {0, 1, 2, 63, 1000}) {
      for (std::size_t grain : {1, 7, 2000}) {
        std::vector<std::atomic<int>> seen(count);
        parallel_for(count, grain, [&](std::size_t begin, std::size_t end) {
          for (std::size_t i = begin; i < end; ++i) ++seen[i];
        });
        for (auto& times : seen) CHECK_EQ(times.load(), 1);
      }
    }
  }
}

TEST(parallel_for_rethrows_and_goes_on_working) {
  set_thread_count(3);
  CHECK_THROWS(
      parallel_for(100, 1,
                   [](std::size_t i, std::size_t) { require(i != 41, ErrorCode::non_finite, "here"); }),
      ErrorCode::non_finite);
  std::atomic<int> count{0};
  parallel_for(100, 3, [&](std::size_t begin, std::size_t end) { count += static_cast<int>(end - begin); });
  CHECK_EQ(count.load(), 100);
}

TEST(a_region_inside_a_region_runs) {
  set_thread_count(2);
  std::atomic<int> count{0};
  parallel_for(4, 1, [&](std::size_t, std::size_t) {
    parallel_for(5, 1, [&](std::size_t, std::size_t) { ++count; });
  });
  CHECK_EQ(count.load(), 20);
}

TEST(thread_count_is_checked) {
  CHECK_THROWS(set_thread_count(0), ErrorCode::invalid_argument);
  CHECK_THROWS(set_thread_count(2000), ErrorCode::invalid_argument);
}

TEST(columns_are_sliced_across_their_ends) {
  std::vector<int> all;
  Columns<int> columns;
  for (const std::size_t size : {3u, 0u, 1u, 200'000u, 5u}) {  // the fourth on pages of its own
    PagedVector<int> part;
    for (std::size_t i = 0; i < size; ++i) part.push_back(static_cast<int>(all.size() + i) * 7);
    all.insert(all.end(), part.begin(), part.end());
    columns.append(std::move(part));
  }
  CHECK_EQ(columns.size(), all.size());
  for (const auto& [first, count] : {std::pair<std::size_t, std::size_t>{0, all.size()},
                                     {0, 3},
                                     {0, 0},
                                     {2, 2},
                                     {2, 1000},
                                     {3, 0},
                                     {4, 200'000},
                                     {200'003, 6},
                                     {all.size() - 1, 1},
                                     {all.size(), 0}}) {
    const Column<int> part = columns.slice(first, count);
    CHECK_EQ(part.size(), count);
    CHECK(std::equal(part.begin(), part.end(), all.begin() + static_cast<std::ptrdiff_t>(first)));
  }
  CHECK(columns == Columns<int>(all));
  all[100'000] ^= 1;
  CHECK(!(columns == Columns<int>(all)));
}

TEST(columns_of_a_file_are_read_again_after_they_were_forgotten) {
  const std::string path = "core_test_column.bin";
  std::vector<std::uint32_t> values(300'001);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<std::uint32_t>(i * 2654435761u);
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(values.data()), static_cast<std::streamsize>(values.size() * 4));
  {
    const auto file = std::make_shared<MappedFile>(path);
    const Column<std::uint32_t> all(reinterpret_cast<const std::uint32_t*>(file->data()), values.size(),
                                    file);
    for (const std::size_t first : {0u, 1u, 5000u, 200'000u, 300'000u}) {
      const std::size_t count = std::min<std::size_t>(70'000, values.size() - first);
      const Column<std::uint32_t> part = all.slice(first, count);
      part.forget();
      CHECK(std::equal(part.begin(), part.end(), values.begin() + static_cast<std::ptrdiff_t>(first)));
    }
    all.forget();
    CHECK(std::equal(all.begin(), all.end(), values.begin()));
  }
  std::remove(path.c_str());
  const Column<std::uint32_t> own(std::vector<std::uint32_t>(100'000, 7));
  own.forget();  // keeps its content
  CHECK(std::all_of(own.begin(), own.end(), [](std::uint32_t value) { return value == 7; }));
}

TEST(a_paged_buffer_grows_shrinks_and_keeps_its_values) {
  const Philox random(3, 0);
  std::uint64_t drawn = 0;
  const auto draw = [&](std::uint32_t below) { return random.words(drawn++)[0] % below; };
  PagedBuffer<std::uint32_t> buffer;
  std::vector<std::uint32_t> expected;
  const auto same = [&](const PagedBuffer<std::uint32_t>& found) {
    return found.size() == expected.size() && std::equal(expected.begin(), expected.end(), found.data());
  };
  for (int step = 0; step < 300; ++step) {
    switch (draw(6)) {
      case 0:  // over a huge page now and then
        buffer.reserve(draw(step % 50 == 0 ? 2'000'000 : 20'000));
        break;
      case 1: {
        std::vector<std::uint32_t> more(draw(9000));
        for (auto& value : more) value = draw(1u << 31);
        buffer.append(more.data(), more.size());
        expected.insert(expected.end(), more.begin(), more.end());
        break;
      }
      case 2:
        for (std::uint32_t i = 0; i < 1500; ++i) {
          buffer.push_back(i);
          expected.push_back(i);
        }
        break;
      case 3:
        buffer.fit();
        break;
      case 4: {
        PagedBuffer<std::uint32_t> copy = buffer;
        CHECK(same(copy));
        copy.push_back(1);
        buffer = std::move(copy);
        expected.push_back(1);
        break;
      }
      default:
        if (draw(4) == 0) {
          buffer.clear();
          expected.clear();
        }
    }
    CHECK(same(buffer));
  }
  buffer.clear();
  buffer.fit();
  buffer.push_back(7);
  CHECK_EQ(buffer.back(), 7u);
}

TEST(spares_are_as_many_as_were_in_use_at_once) {
  Spares<std::vector<int>> spares;
  std::set<const void*> seen;
  for (int round = 0; round < 5; ++round) {
    const Spares<std::vector<int>>::Taken a(spares), b(spares);
    CHECK(&*a != &*b);
    seen.insert(&*a);
    seen.insert(&*b);
  }
  CHECK_EQ(seen.size(), std::size_t{2});
}

TEST(isa_names) {
  for (Isa isa : kAllIsas) CHECK(parse_isa(isa_name(isa)) == isa);
  CHECK_THROWS(parse_isa("sse9"), ErrorCode::invalid_argument);
}

// Known answers of Philox4x32-10 from the Random123 distribution (kat_vectors).
TEST(philox_known_answers) {
  const auto zero = Philox(0, 0).words(0);
  CHECK_EQ(zero[0], 0x6627e8d5u);
  CHECK_EQ(zero[1], 0xe169c58du);
  CHECK_EQ(zero[2], 0xbc57ac4cu);
  CHECK_EQ(zero[3], 0x9b00dbd8u);
  const auto ones = Philox(~0ull, ~0ull).words(~0ull);
  CHECK_EQ(ones[0], 0x408f276du);
  CHECK_EQ(ones[1], 0x41c83b0eu);
  CHECK_EQ(ones[2], 0xa20bc7c6u);
  CHECK_EQ(ones[3], 0x6d5451fdu);
}

TEST(gaussian_moments) {
  const Philox random(3, 4);
  double sum = 0, squares = 0;
  const int n = 200000;
  for (int i = 0; i < n; ++i) {
    const double x = random.gaussian(i);
    sum += x;
    squares += x * x;
  }
  CHECK_CLOSE(sum / n, 0, 5 / std::sqrt(double(n)));
  CHECK_CLOSE(squares / n, 1, 5 * std::sqrt(2.0 / n));
}
