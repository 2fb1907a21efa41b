// The device's exact sums against the host's.
#include "cuda/shared/exact_totals.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "native/core/random.h"
#include "native/kernels/latent_stats/exact_sum.h"
#include "test/native/check.h"

using namespace personascope;

namespace {

std::uint64_t fetch_add(std::uint64_t* word, std::uint64_t addend) {
  return std::atomic_ref<std::uint64_t>(*word).fetch_add(addend, std::memory_order_relaxed);
}

std::vector<float> values(std::size_t count) {
  const Philox random(4, 0);
  std::vector<float> all = {0x1p-27f, 0x1.fffffep25f, 1.0f, 0x1.fffffep-1f};
  while (all.size() < count) {
    const auto words = random.words(all.size());
    const float value =
        std::ldexp(1.0f + static_cast<float>(words[0] >> 9) * 0x1p-23f, static_cast<int>(words[1] % 53) - 27);
    all.push_back(value);
  }
  return all;
}

}  // namespace

TEST(the_same_window) {
  static_assert(cuda::kSumUnit == LatentTotals::kSumUnit && cuda::kSquaresUnit == LatentTotals::kSquaresUnit);
  static_assert(cuda::kSumLimbs == LatentTotals::kSumLimbs &&
                cuda::kSquaresLimbs == LatentTotals::kSquaresLimbs);
  for (float value : {0x1p-28f, 0x1.fffffep-28f, 0x1p-27f, 1.0f, 0x1.fffffep25f, 0x1p26f, 1e30f, 1e-40f})
    CHECK(cuda::fits_totals(value) == LatentTotals::fits(value));
}

TEST(sums_from_many_threads_have_the_host_s_bits) {
  const std::vector<float> all = values(200000);
  LatentTotals wanted;
  for (float value : all) wanted.add(value);
  for (int threads : {1, 4}) {
    std::uint64_t sum[cuda::kSumLimbs] = {}, squares[cuda::kSquaresLimbs] = {};
    std::vector<std::thread> running;
    for (int thread = 0; thread < threads; ++thread)
      running.emplace_back([&, thread] {
        for (std::size_t i = static_cast<std::size_t>(thread); i < all.size();
             i += static_cast<std::size_t>(threads))
          cuda::add_to_totals(sum, squares, all[i], fetch_add);
      });
    for (std::thread& one : running) one.join();
    CHECK(std::equal(wanted.sum.begin(), wanted.sum.end(), sum));
    CHECK(std::equal(wanted.squares.begin(), wanted.squares.end(), squares));
  }
}

TEST(carries_run_through_all_words) {
  std::uint64_t limbs[3] = {~0ull, ~0ull, 5};
  cuda::add_exact(limbs, 3, 1, 0, fetch_add);
  CHECK(limbs[0] == 0 && limbs[1] == 0 && limbs[2] == 6);
  // A term over two words whose upper word is all ones, and a carry from the lower one.
  std::uint64_t other[3] = {1, 0, 0};
  cuda::add_exact(other, 3, ~0ull, 32, fetch_add);
  const unsigned __int128 wanted = (static_cast<unsigned __int128>(~0ull) << 32) + 1;
  CHECK(other[0] == static_cast<std::uint64_t>(wanted) &&
        other[1] == static_cast<std::uint64_t>(wanted >> 64));
}

TEST(rounding_is_the_host_s) {
  const Philox random(5, 0);
  for (std::uint64_t i = 0; i < 200000; ++i) {
    std::uint64_t limbs[3];
    for (int limb = 0; limb < 3; ++limb) {
      const auto words = random.words(3 * i + static_cast<std::uint64_t>(limb));
      limbs[limb] = static_cast<std::uint64_t>(words[0]) << 32 | words[1];
      if (words[2] % 4 == 0) limbs[limb] = 0;
      if (words[2] % 4 == 1) limbs[limb] = ~0ull << (words[3] % 64);
      if (words[2] % 4 == 2) limbs[limb] = 1ull << (words[3] % 64);
    }
    const int count = 1 + static_cast<int>(i % 3);
    CHECK(cuda::round_totals(limbs, count, cuda::kSquaresUnit) ==
          round_fixed(limbs, static_cast<std::size_t>(count), cuda::kSquaresUnit));
  }
}
