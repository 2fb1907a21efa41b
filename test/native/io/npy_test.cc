#include "native/io/npy.h"

#include "native/core/error.h"
#include "test/native/check.h"
#include "test/native/io/archive.h"
#include "test/native/io/files.h"

using namespace personascope;
using archive::npy;
using archive::values;

namespace {

Tensor parse(const std::string& bytes) {
  auto copy = std::make_shared<std::vector<std::uint8_t>>(bytes.begin(), bytes.end());
  return parse_npy(copy->data(), copy->size(), "x.npy", copy);
}

bool refused(const std::string& bytes, const std::string& message) {
  return refuses([&] { parse(bytes); }, message);
}

const std::string kSix = values<float>({0, 1, 2, 3, 4, 5});

}  // namespace

TEST(arrays_of_both_orders_and_every_version) {
  for (const int version : {1, 2, 3}) {
    const Tensor c =
        parse(npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }    \n", kSix, version));
    CHECK(c.shape == (std::vector<std::uint64_t>{2, 3}));
    CHECK(read(c) == (std::vector<float>{0, 1, 2, 3, 4, 5}));
    const Tensor f = parse(npy("{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3)}", kSix, version));
    CHECK(f.shape == (std::vector<std::uint64_t>{2, 3}));
    CHECK(read(f) == (std::vector<float>{0, 2, 4, 1, 3, 5}));
  }
  CHECK(parse(npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", values<double>({0.5}))).dtype ==
        Dtype::f64);
  CHECK(parse(npy("{'shape': (3,), 'fortran_order': False, 'descr': '|b1'}", "\x01\x01\x01")).dtype ==
        Dtype::boolean);
  CHECK_EQ(parse(npy("{'descr': '<i8', 'fortran_order': False, 'shape': (0, 5)}", "")).elements(), 0u);
}

TEST(other_values_are_refused_by_name) {
  const auto of = [](const std::string& descr) {
    return npy("{'descr': " + descr + ", 'fortran_order': False, 'shape': (1,)}", "xxxxxxxx");
  };
  CHECK(refused(of("'|O'"), "Python objects are not read"));
  CHECK(refused(of("'>f4'"), "'>f4', expected little-endian"));
  CHECK(refused(of("'<c8'"), "'<c8'"));
  CHECK(refused(of("[('a', '<f4')]"), "structured"));
}

TEST(lying_headers_are_refused) {
  const auto header = [](const std::string& text) { return npy(text, kSix); };
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4)}"),
                "found 24 bytes of values, expected 32"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2)}"), "expected 16"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 8)}"),
                "overflows"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"),
                "64 bits"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 4611686018427387904, 8)}"),
                "overflows"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False}"), "expected descr"));
  CHECK(refused(header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}"),
                "appears twice"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': 1, 'shape': (6,)}"), "fortran_order"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}"), "unknown key"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (-6,)}"), "whole number"));
  CHECK(refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (6,)} + 1"), "after the closing"));
  CHECK(refused(npy("{}", kSix, 4), "version 4.0"));
}

TEST(every_truncation_is_refused) {
  const std::string whole = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", kSix);
  for (std::size_t size = 0; size < whole.size(); ++size)
    CHECK_THROWS(parse(whole.substr(0, size)), ErrorCode::format);
}
