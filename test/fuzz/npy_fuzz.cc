// Arbitrary bytes as a numpy array: refused, or values that can be read.
#include "native/io/npy.h"

#include <cstdlib>
#include <vector>

#include "native/core/error.h"

using namespace personascope;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  try {
    const Tensor tensor = parse_npy(bytes, size, "fuzz", nullptr);
    if (tensor.elements() > size) std::abort();
    std::vector<float> values(tensor.elements());
    read_f32(tensor, 0, values.size(), values.data());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::format) std::abort();
  }
  return 0;
}
