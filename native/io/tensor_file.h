// A file of named tensors, whatever its format: safetensors, numpy's .npy and .npz, torch's .pt. Opening
// reads and checks the headers; values stay where they lie in the mapped file.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "native/core/mapped_file.h"
#include "native/core/tensor.h"
#include "native/io/zip.h"

namespace personascope {

struct NamedTensor {
  std::string name;  // in a .pt file the keys on the way to it, joined by '/'
  Tensor tensor;
};

// Whatever else is said in the file: metadata of safetensors, numbers and texts of a .pt file.
struct NamedScalar {
  std::string name;
  std::variant<std::monostate, bool, std::int64_t, double, std::string> value;
};

struct TensorFile {
  enum class Format { safetensors, npy, npz, pt };
  Format format = Format::safetensors;
  std::shared_ptr<MappedFile> file;
  std::vector<NamedTensor> tensors;
  std::vector<NamedScalar> scalars;
  std::vector<ZipEntry> entries;  // of .npz and .pt files

  // Arrays of a .npz file that are compressed, and are no tensors until `unpack` was called.
  std::vector<ZipEntry> packed;
  // Adds the array of packed[index], given the inflated content; throws format unless size and checksum are
  // right and it is an array.
  void unpack(std::size_t index, std::shared_ptr<const std::vector<std::uint8_t>> content);
  // Throws format, naming the entry, unless the content of every stored entry has the checksum that its
  // archive states. Reads them whole. `check` is called now and then.
  void verify(const std::function<void(std::uint64_t done)>& check) const;
};

// "safetensors", "npy", "npz", "pt".
const char* tensor_format_name(TensorFile::Format format);

// The format is told by the first bytes, not by the name. Throws not_found, io, or format naming the file.
TensorFile open_tensor_file(const std::string& path);

}  // namespace personascope
