// Arbitrary bytes as a zip archive: refused, or entries that lie within them, one after the other.
#include "native/io/zip.h"

#include <cstdlib>

#include "native/core/error.h"

using namespace personascope;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    std::uint64_t covered = 0;
    for (const ZipEntry& entry : parse_zip(bytes, size, "fuzz")) {
      if (entry.begin < covered || entry.packed > size || entry.begin > size - entry.packed) std::abort();
      covered = entry.begin + entry.packed;
    }
  } catch (const Error& error) {
    if (error.code() != ErrorCode::format) std::abort();
  }
  return 0;
}
