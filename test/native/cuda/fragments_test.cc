// Index arithmetic of the GPU kernels: the documented layouts of the instructions, emulated.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <set>
#include <vector>

#include "cuda/shared/canonical.h"
#include "cuda/shared/order.h"
#include "cuda/shared/tiles.h"
#include "native/core/random.h"
#include "test/native/check.h"

using namespace personascope;
using namespace personascope::cuda;

namespace {

// mma.sync.m16n8k32.s8 as the PTX manual lays it out. A word of a lane is four bytes of k.
//   A: word 0 row g, k 4c...; word 1 row g + 8; word 2 row g, k 16 + 4c...; word 3 row g + 8; g = lane / 4, c
//   = lane % 4 B: word 0 column g, k 4c...; word 1 column g, k 16 + 4c...
struct Instruction {
  std::int8_t a[16][32], b[8][32];
  void set_a(int lane, int word, std::uint32_t bits) {
    const int row = lane / 4 + 8 * (word % 2), k = lane % 4 * 4 + 16 * (word / 2);
    std::memcpy(&a[row][k], &bits, 4);
  }
  void set_b(int lane, int word, std::uint32_t bits) {
    std::memcpy(&b[lane / 4][lane % 4 * 4 + 16 * word], &bits, 4);
  }
  int product(int row, int column) const {
    int sum = 0;
    for (int k = 0; k < 32; ++k) sum += a[row][k] * b[column][k];
    return sum;
  }
};

}  // namespace

// What multiply_step() hands to its two instructions, from sixteen bytes a lane, is the whole product of 64
// bytes.
TEST(a_step_of_64_bytes) {
  const Philox random(1, 0);
  std::vector<std::int8_t> rows(16 * kStepBytes), tokens(8 * kStepBytes);
  std::uint64_t at = 0;
  for (auto* values : {&rows, &tokens})
    for (std::int8_t& value : *values) value = static_cast<std::int8_t>(random.gaussian(at++) * 40);
  Instruction first = {}, second = {};
  for (int lane = 0; lane < 32; ++lane) {
    std::uint32_t low[4], high[4], column[4];
    std::memcpy(low, &rows[chunk_row(lane) * kStepBytes + chunk_offset(lane)], 16);
    std::memcpy(high, &rows[(chunk_row(lane) + 8) * kStepBytes + chunk_offset(lane)], 16);
    std::memcpy(column, &tokens[chunk_row(lane) * kStepBytes + chunk_offset(lane)], 16);
    for (int half = 0; half < 2; ++half) {
      Instruction& to = half ? second : first;
      const std::uint32_t a[4] = {low[2 * half], high[2 * half], low[2 * half + 1], high[2 * half + 1]};
      for (int word = 0; word < 4; ++word) to.set_a(lane, word, a[word]);
      for (int word = 0; word < 2; ++word) to.set_b(lane, word, column[2 * half + word]);
    }
  }
  for (int row = 0; row < 16; ++row)
    for (int column = 0; column < 8; ++column) {
      int wanted = 0;
      for (int k = 0; k < kStepBytes; ++k)
        wanted += rows[row * kStepBytes + k] * tokens[column * kStepBytes + k];
      CHECK_EQ(first.product(row, column) + second.product(row, column), wanted);
    }
}

// Every element of a tile belongs to exactly one thread.
TEST(accumulators_cover_tiles_once) {
  std::set<std::pair<int, int>> seen;
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i) {
      const Place2 place = mma_accumulator(lane, i);
      CHECK(place.row >= 0 && place.row < kMmaRows && place.column >= 0 && place.column < kMmaColumns);
      CHECK(seen.insert({place.row, place.column}).second);
    }
  CHECK_EQ(seen.size(), std::size_t{kMmaRows * kMmaColumns});

  // The PTX manual's figure for wgmma: d0, d1 of thread 0 are row 0, columns 0 and 1; d2 row 8; d4 column 8.
  CHECK(wgmma_accumulator(0, 1).column == 1 && wgmma_accumulator(0, 2).row == 8 &&
        wgmma_accumulator(0, 4).column == 8);
  CHECK(wgmma_accumulator(37, 0).row == 17 && wgmma_accumulator(37, 0).column == 2);
  seen.clear();
  for (int thread = 0; thread < 128; ++thread)
    for (int i = 0; i < kHopperTokens / 2; ++i) {
      const Place2 place = wgmma_accumulator(thread, i);
      CHECK(place.row >= 0 && place.row < 64 && place.column >= 0 && place.column < kHopperTokens);
      CHECK(seen.insert({place.row, place.column}).second);
    }
  CHECK_EQ(seen.size(), std::size_t{64 * kHopperTokens});

  seen.clear();
  for (int warp = 0; warp < kBlockWarps; ++warp)
    for (int row = 0; row < kWarpLatents; ++row)
      for (int column = 0; column < kWarpTokens; ++column) {
        const Place2 origin = warp_origin(warp);
        CHECK(seen.insert({origin.row + row, origin.column + column}).second);
      }
  CHECK_EQ(seen.size(), std::size_t{kBlockLatents * kBlockTokens});
  for (const auto& [row, column] : seen) CHECK(row < kBlockLatents && column < kBlockTokens);
}

// Eight lanes of a sixteen-byte read of shared memory take their turn together: all 32 banks, each once.
TEST(reads_without_bank_conflicts) {
  for (int turn = 0; turn < 4; ++turn) {
    std::set<int> banks;
    for (int lane = 8 * turn; lane < 8 * turn + 8; ++lane)
      for (int word = 0; word < 4; ++word)
        banks.insert((chunk_row(lane) * kStepBytes + chunk_offset(lane)) / 4 % 32 + word);
    CHECK_EQ(banks.size(), 32u);
  }
}

TEST(schedules_cover_all_tiles_once) {
  for (std::uint32_t latents : {1u, 127u, 128u, 129u, 70001u})
    for (std::uint32_t tokens : {1u, 128u, 255u, 257u, 4096u})
      for (std::uint32_t blocks : {1u, 7u, 132u}) {
        const TileSchedule schedule(latents, tokens, 128, 256);
        std::vector<int> hits(schedule.tiles());
        for (std::uint32_t block = 0; block < blocks; ++block)
          for (std::uint64_t tile = block; tile < schedule.tiles(); tile += blocks) {
            CHECK(schedule.latent_tile(tile) < schedule.latent_tiles);
            CHECK(schedule.latent_tile(tile) * 128 < latents && schedule.token_tile(tile) * 256 < tokens);
            ++hits[schedule.latent_tile(tile) * schedule.token_tiles + schedule.token_tile(tile)];
          }
        for (int count : hits) CHECK_EQ(count, 1);
      }
}

// Eight lanes give the bits of the canonical product as encode.h defines it.
TEST(canonical_products_by_octets) {
  const Philox random(2, 0);
  std::uint64_t at = 0;
  for (std::size_t width : {1, 63, 64, 65, 200, 1024, 4096}) {
    const std::size_t padded = (width + 63) / 64 * 64;
    std::vector<float> w(padded), x(padded);
    for (std::size_t i = 0; i < width; ++i) {
      w[i] = static_cast<float>(random.gaussian(at++));
      x[i] = static_cast<float>(random.gaussian(at++));
    }
    float sums[64] = {};
    for (std::size_t i = 0; i < width; ++i) sums[i % 64] = std::fma(w[i], x[i], sums[i % 64]);
    for (std::size_t half = 32; half > 0; half /= 2)
      for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];

    CanonicalLane lanes[kCanonicalLanes];
    for (int lane = 0; lane < kCanonicalLanes; ++lane)
      for (std::size_t group = lane; group < padded / kLaneSums; group += kCanonicalLanes) {
        float row[kLaneSums];
        std::memcpy(row, &w[group * kLaneSums], sizeof row);
        lanes[lane].add(row, &x[group * kLaneSums]);
      }
    for (int step = kCanonicalLanes / 2; step > 0; step /= 2) {
      CanonicalLane before[kCanonicalLanes];
      std::memcpy(before, lanes, sizeof lanes);
      for (int lane = 0; lane < kCanonicalLanes; ++lane) lanes[lane].merge(before[lane ^ step].sums);
    }
    for (const CanonicalLane& lane : lanes) CHECK(float_bits(lane.total()) == float_bits(sums[0]));
  }
}

TEST(orders) {
  const float values[] = {-INFINITY, -3.0f, -1e-40f, -0.0f, 0.0f,    0x1p-149f,
                          1e-40f,    1.0f,  1.5f,    3e38f, INFINITY};
  for (std::size_t i = 1; i < std::size(values); ++i) {
    CHECK(ordered(values[i - 1]) < ordered(values[i]));
    CHECK(float_bits(from_ordered(ordered(values[i]))) == float_bits(values[i]));
  }
  CHECK(choice_key(2, 7) > choice_key(1, 0));
  CHECK(choice_key(2, 7) > choice_key(2, 8));
  CHECK(output_key(2, 7) < output_key(1, 0));
  CHECK(output_key(2, 7) < output_key(2, 8));
  CHECK(output_latent(output_key(2.5f, 0xFFFFFFFEu)) == 0xFFFFFFFEu &&
        output_value(output_key(2.5f, 3)) == 2.5f);
}

// The search that a block makes together, with one thread.
TEST(kth_largest_by_digits) {
  const Philox random(3, 0);
  for (int round = 0; round < 200; ++round) {
    const std::size_t n = 1 + random.words(static_cast<std::uint64_t>(round))[0] % 300;
    std::vector<std::uint64_t> keys(n);
    for (std::size_t i = 0; i < n; ++i)
      // Many ties, many equal digits.
      keys[i] = choice_key(static_cast<float>(static_cast<int>(random.gaussian(round * 1000ull + i) * 3)),
                           static_cast<std::uint32_t>(i % 5));
    std::vector<std::uint64_t> sorted(keys);
    std::sort(sorted.rbegin(), sorted.rend());
    for (std::uint32_t k :
         {std::uint32_t{1}, static_cast<std::uint32_t>((n + 1) / 2), static_cast<std::uint32_t>(n)}) {
      DigitSearch<std::uint64_t> search(k);
      for (int digit = 0; digit < DigitSearch<std::uint64_t>::kDigits; ++digit) {
        std::uint32_t buckets[256] = {};
        for (std::uint64_t key : keys)
          if (search.counts(key, digit)) ++buckets[DigitSearch<std::uint64_t>::bucket(key, digit)];
        std::uint32_t above = 0;
        int found = 255;
        while (above + buckets[found] < search.rank) above += buckets[found--];
        search.take(found, above, digit);
      }
      CHECK(search.prefix == sorted[k - 1]);
    }
  }
}
