// A small test harness for the native core: TEST(name) { CHECK(...); CHECK_CLOSE(...); }, one program a file.
// A program runs all its tests, prints "N passed, M failed" and exits with 1 if one failed. An argument runs
// only the tests whose name contains it.
#pragma once
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "native/core/error.h"

namespace check {

struct Test {
  const char* name;
  std::function<void()> body;
};
inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}
inline int& failures() {
  static int count = 0;
  return count;
}
struct Register {
  Register(const char* name, std::function<void()> body) { tests().push_back({name, std::move(body)}); }
};
inline void report(const char* file, int line, const std::string& what) {
  ++failures();
  if (failures() <= 50) std::printf("  %s:%d: %s\n", file, line, what.c_str());
}

}  // namespace check

#define TEST(name)                                            \
  static void test_##name();                                  \
  static check::Register register_##name{#name, test_##name}; \
  static void test_##name()

#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) check::report(__FILE__, __LINE__, "not true: " #condition); \
  } while (0)

#define CHECK_EQ(found, expected)                                                           \
  do {                                                                                      \
    const auto found_ = (found);                                                            \
    const auto expected_ = (expected);                                                      \
    if (!(found_ == expected_))                                                             \
      check::report(__FILE__, __LINE__,                                                     \
                    std::string(#found) + " == " + std::to_string(found_) + ", expected " + \
                        std::to_string(expected_));                                         \
  } while (0)

// |found - expected| <= tolerance; a NaN on either side fails.
#define CHECK_CLOSE(found, expected, tolerance)                                               \
  do {                                                                                        \
    const double found_ = (found), expected_ = (expected), tolerance_ = (tolerance);          \
    if (!(std::fabs(found_ - expected_) <= tolerance_))                                       \
      check::report(__FILE__, __LINE__,                                                       \
                    std::string(#found) + " == " + std::to_string(found_) + ", expected " +   \
                        std::to_string(expected_) + " within " + std::to_string(tolerance_)); \
  } while (0)

#define CHECK_THROWS(expression, error_code)                                                   \
  do {                                                                                         \
    bool threw_ = false;                                                                       \
    try {                                                                                      \
      (void)(expression);                                                                      \
    } catch (const personascope::Error& error) {                                               \
      threw_ = error.code() == (error_code);                                                   \
    }                                                                                          \
    if (!threw_) check::report(__FILE__, __LINE__, #expression " did not throw " #error_code); \
  } while (0)

int main(int argc, char** argv) {
  int passed = 0, failed = 0;
  for (const auto& test : check::tests()) {
    if (argc > 1 && !std::strstr(test.name, argv[1])) continue;
    const int before = check::failures();
    try {
      test.body();
    } catch (const std::exception& error) {
      check::report(test.name, 0, std::string("threw ") + error.what());
    }
    const bool good = check::failures() == before;
    good ? ++passed : ++failed;
    if (!good) std::printf("FAILED %s\n", test.name);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed || passed == 0 ? 1 : 0;
}
