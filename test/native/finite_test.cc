#include "native/core/finite.h"

#include <limits>
#include <vector>

#include "native/core/thread_pool.h"
#include "test/native/check.h"

using namespace personascope;

TEST(the_first_non_finite_value_is_found) {
  for (int threads : {1, 3}) {
    set_thread_count(threads);
    for (std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{1025}, std::size_t{700001}}) {
      std::vector<float> values(count, std::numeric_limits<float>::max());
      CHECK_EQ(first_non_finite(values.data(), count), count);
      if (count == 0) continue;
      values[count - 1] = std::numeric_limits<float>::quiet_NaN();
      CHECK_EQ(first_non_finite(values.data(), count), count - 1);
      values[count / 2] = -std::numeric_limits<float>::infinity();
      CHECK_EQ(first_non_finite(values.data(), count), count / 2);
    }
  }
}
