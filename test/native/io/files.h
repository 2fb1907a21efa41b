// What the tests of file parsers share.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>
#include <vector>

#include "native/core/error.h"
#include "native/core/tensor.h"
#include "test/native/check.h"

// A folder of its own among the system's temporary files, deleted at the end.
struct TemporaryFolder {
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "personascope_test_XXXXXX").string();
    personascope::require(::mkdtemp(name.data()) != nullptr, personascope::ErrorCode::io,
                          name + ": could not be made");
    path = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string path;
};

struct TemporaryFile {
  explicit TemporaryFile(const std::string& bytes) : path(folder.path + "/file") {
    std::ofstream(path, std::ios::binary) << bytes;
  }
  TemporaryFolder folder;
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
