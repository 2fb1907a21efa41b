// Arbitrary bytes as a safetensors file: refused, or tensors that lie within them.
#include "native/io/safetensors.h"

#include <cstdlib>

#include "native/core/error.h"

using namespace personascope;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    for (const TensorInfo& tensor : parse_safetensors(bytes, size, "fuzz").tensors)
      if (tensor.begin > tensor.end || tensor.end > size) std::abort();
  } catch (const Error& error) {
    if (error.code() != ErrorCode::format) std::abort();
  }
  return 0;
}
