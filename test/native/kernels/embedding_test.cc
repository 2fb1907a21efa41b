#include "native/kernels/embedding/embedding.h"

#include "test/native/check.h"
#include "test/native/kernels/variants.h"

using namespace personascope;

TEST(gather_and_scatter) {
  check::each_isa([](Isa) {
    for (std::size_t width : {1, 3, 8, 15, 16, 17, 65, 130})
      for (std::size_t tokens : {1, 2, 300, 2000}) {
        const std::size_t vocabulary = 37, places = 71;
        const auto table = check::normal(vocabulary * width, 1), position = check::normal(places * width, 2);
        const auto dy = check::normal(tokens * width, 3), before = check::normal(vocabulary * width, 4);
        std::vector<std::int32_t> ids(tokens), positions(tokens);
        for (std::size_t t = 0; t < tokens; ++t) {
          ids[t] = static_cast<std::int32_t>(t * t * 7 % vocabulary);
          positions[t] = static_cast<std::int32_t>(t * 5 % places);
        }
        EmbeddingArgs a;
        a.tokens = tokens;
        a.width = width;
        a.ids = ids.data();
        a.table = table.data();
        a.vocabulary = vocabulary;
        std::vector<float> y(tokens * width);
        a.y = y.data();
        embedding_forward(a);
        for (std::size_t i = 0; i < y.size(); ++i)
          CHECK_EQ(y[i], table[static_cast<std::size_t>(ids[i / width]) * width + i % width]);
        a.positions = positions.data();
        a.position_table = position.data();
        a.max_positions = places;
        embedding_forward(a);
        for (std::size_t i = 0; i < y.size(); ++i)
          CHECK_EQ(y[i], table[static_cast<std::size_t>(ids[i / width]) * width + i % width] +
                             position[static_cast<std::size_t>(positions[i / width]) * width + i % width]);

        if (tokens > 1) ids[1] = -1;  // has no gradient
        bool same = true;
        const auto found = check::each_thread_count(
            [&] {
              auto dtable = before;
              EmbeddingBackwardArgs b;
              b.tokens = tokens;
              b.width = width;
              b.ids = ids.data();
              b.rows = vocabulary;
              b.dy = dy.data();
              b.dtable = dtable.data();
              embedding_backward(b);
              return dtable;
            },
            same);
        CHECK(same);
        std::vector<double> expected(before.begin(), before.end());
        for (std::size_t t = 0; t < tokens; ++t)
          for (std::size_t i = 0; ids[t] >= 0 && i < width; ++i)
            expected[static_cast<std::size_t>(ids[t]) * width + i] += dy[t * width + i];
        for (std::size_t i = 0; i < expected.size(); ++i) CHECK_CLOSE(found[i], expected[i], 1e-4);
      }
  });
}

TEST(ids_outside_are_errors) {
  std::vector<float> table(8), y(8);
  std::int32_t id = 4, position = 9;
  EmbeddingArgs a;
  a.tokens = 1;
  a.width = 2;
  a.ids = &id;
  a.table = table.data();
  a.vocabulary = 4;
  a.y = y.data();
  CHECK_THROWS(embedding_forward(a), ErrorCode::invalid_argument);
  id = -1;
  CHECK_THROWS(embedding_forward(a), ErrorCode::invalid_argument);
  id = 3;
  a.position_table = table.data();
  a.max_positions = 4;
  CHECK_THROWS(embedding_forward(a), ErrorCode::invalid_argument);
  a.positions = &position;
  CHECK_THROWS(embedding_forward(a), ErrorCode::invalid_argument);
  EmbeddingBackwardArgs b;
  b.tokens = 1;
  b.width = 2;
  b.ids = &position;
  b.rows = 4;
  b.dy = y.data();
  b.dtable = table.data();
  CHECK_THROWS(embedding_backward(b), ErrorCode::invalid_argument);
}
