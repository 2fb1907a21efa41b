// Arbitrary bytes as a JSON document.
#include "native/io/json.h"

#include <cstdlib>

#include "native/core/error.h"

using namespace personascope;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    parse_json(bytes, size, "fuzz");
  } catch (const Error& error) {
    if (error.code() != ErrorCode::format) std::abort();
  }
  return 0;
}
