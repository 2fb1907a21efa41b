#include "native/kernels/rope/rope.h"

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

TEST(table_of_llama) {
  const auto inv_freq = rope_inv_freq(10000, 8);
  CHECK_EQ(inv_freq.size(), 4u);
  CHECK_CLOSE(inv_freq[0], 1, 0);
  CHECK_CLOSE(inv_freq[1], 0.1, 1e-8);
  CHECK_CLOSE(inv_freq[3], 0.001, 1e-10);
  const RopeTable table = rope_table(inv_freq, 11);
  CHECK_CLOSE(table.cos[10 * 4 + 1], std::cos(1.0), 1e-7);
  CHECK_CLOSE(table.sin[3 * 4], std::sin(3.0), 1e-7);
  CHECK_THROWS(rope_inv_freq(10000, 7), ErrorCode::invalid_argument);
}

TEST(rotation_and_its_inverse) {
  check::each_isa([](Isa) {
    for (std::size_t half : {1, 2, 4, 7, 8, 9, 16, 17, 32, 33})
      for (std::size_t rest : {0, 3}) {
        const std::size_t tokens = 37, heads = 3, dim = 2 * half + rest, token = heads * dim + 5;
        const RopeTable table = rope_table(rope_inv_freq(500, 2 * half), 100);
        const auto x = check::normal(tokens * token, 1);
        std::vector<std::int32_t> positions(tokens);
        for (std::size_t t = 0; t < tokens; ++t) positions[t] = static_cast<std::int32_t>(t * 31 % 100);
        RopeArgs a;
        a.tokens = tokens;
        a.heads = heads;
        a.head_dim = dim;
        a.token_stride = token;
        a.head_stride = dim;
        a.positions = positions.data();
        a.table = &table;
        bool same = true;
        const auto turned = check::each_thread_count(
            [&] {
              auto y = x;
              RopeArgs b = a;
              b.x = y.data();
              rope(b);
              return y;
            },
            same);
        CHECK(same);
        auto back = turned;
        RopeArgs inverse = a;
        inverse.x = back.data();
        inverse.inverse = true;
        rope(inverse);
        for (std::size_t t = 0; t < tokens; ++t)
          for (std::size_t i = 0; i < token; ++i) {
            const std::size_t at = t * token + i, d = i % dim;
            CHECK_CLOSE(back[at], x[at], 1e-5);
            if (i >= heads * dim || d >= 2 * half) {
              CHECK_EQ(turned[at], x[at]);
              continue;
            }
            const std::size_t pair = d % half;
            const double angle =
                static_cast<float>(positions[t]) *
                std::pow(500.0, -2.0 * static_cast<double>(pair) / (2.0 * static_cast<double>(half)));
            const double c = std::cos(angle), s = std::sin(angle);
            const double expected = d < half ? x[at] * c - x[at + half] * s : x[at] * c + x[at - half] * s;
            CHECK_CLOSE(turned[at], expected, 4e-5);  // the angle itself is fp32, as in torch
          }
      }
  });
}

TEST(wrong_positions_are_errors) {
  const RopeTable table = rope_table(rope_inv_freq(10000, 4), 5);
  std::vector<float> x(8);
  std::int32_t position = 5;
  RopeArgs a;
  a.tokens = 1;
  a.heads = 1;
  a.head_dim = 4;
  a.x = x.data();
  a.token_stride = a.head_stride = 4;
  a.positions = &position;
  a.table = &table;
  CHECK_THROWS(rope(a), ErrorCode::invalid_argument);
  position = -1;
  CHECK_THROWS(rope(a), ErrorCode::invalid_argument);
  position = 0;
  a.head_dim = 2;
  CHECK_THROWS(rope(a), ErrorCode::invalid_argument);
}
