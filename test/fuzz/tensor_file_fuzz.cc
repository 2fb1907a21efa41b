// Arbitrary bytes as a file of tensors of any format: refused, or tensors whose values can be read.
#include "native/io/tensor_file.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "native/core/error.h"

using namespace personascope;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  static const int file = ::memfd_create("fuzz", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (::ftruncate(file, 0) != 0 || ::pwrite(file, bytes, size, 0) != static_cast<ssize_t>(size)) std::abort();
  try {
    const TensorFile opened = open_tensor_file(path);
    for (const auto& [name, tensor] : opened.tensors) {
      if (tensor.elements() > size) std::abort();
      if (tensor.dtype != Dtype::f32 && tensor.dtype != Dtype::f16 && tensor.dtype != Dtype::bf16) continue;
      std::vector<float> values(tensor.elements());
      read_f32(tensor, 0, values.size(), values.data());
    }
    opened.verify([](std::uint64_t) {});
  } catch (const Error& error) {
    if (error.code() != ErrorCode::format) std::abort();
  }
  return 0;
}
