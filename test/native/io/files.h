// What the tests of file parsers share.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

#include "native/core/error.h"
#include "native/core/tensor.h"
#include "test/native/check.h"

struct TemporaryFile {
  explicit TemporaryFile(const std::string& bytes) {
    char name[] = "/tmp/personascope_test_XXXXXX";
    const int descriptor = ::mkstemp(name);
    CHECK(descriptor >= 0);
    ::close(descriptor);
    path = name;
    std::ofstream(path, std::ios::binary) << bytes;
  }
  ~TemporaryFile() { std::remove(path.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  std::string path;
};

// Whether `parse` fails with a format error that says `message`.
template <class Parse>
bool refuses(const Parse& parse, const std::string& message) {
  using namespace personascope;
  try {
    parse();
  } catch (const Error& error) {
    const bool good =
        error.code() == ErrorCode::format && std::string(error.what()).find(message) != std::string::npos;
    if (!good) std::printf("  %s\n", error.what());
    return good;
  }
  std::printf("  not refused: %s\n", message.c_str());
  return false;
}

inline std::vector<float> read(const personascope::Tensor& tensor) {
  std::vector<float> out(tensor.elements());
  personascope::read_f32(tensor, 0, out.size(), out.data());
  return out;
}
