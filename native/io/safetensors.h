// Reader of the safetensors format (https://github.com/huggingface/safetensors, "Format"):
//
//   8 bytes   u64 little-endian: length h of the header
//   h bytes   JSON object {"<name>": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ...,
//             "__metadata__": {"<key>": "<text>", ...}}, UTF-8, may be padded with spaces
//   rest      the tensors' bytes, row-major, little-endian; offsets count from here
//
// The bytes are not trusted. Refused with a format error that names the file and the tensor: a header longer
// than the file or than 100 MB, anything but the grammar above (one parser without recursion), unknown
// dtypes, shapes whose product overflows or disagrees with the offsets, offsets out of range, overlaps and
// holes, duplicate names or fields, invalid UTF-8.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "native/core/dtype.h"
#include "native/core/mapped_file.h"
#include "native/core/tensor.h"

namespace personascope {

struct TensorInfo {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::uint64_t> shape;  // empty for a scalar
  std::uint64_t elements = 0;        // product of the shape
  std::uint64_t begin = 0, end = 0;  // bytes, counted from the first byte of the file
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their bytes
  std::vector<std::pair<std::string, std::string>> metadata;
};

// Checks and reads the header of a whole file that lies in memory. `where` is put before error messages.
// Touches only the header's bytes. Safe for arbitrary input.
SafetensorsHeader parse_safetensors(const std::uint8_t* bytes, std::size_t size, const std::string& where);

// A mapped file. Immutable, so any number of threads may read it.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::string& path);
  SafetensorsFile(const SafetensorsFile&) = delete;  // index_ refers to header_
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return file_->path(); }
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  const std::vector<std::pair<std::string, std::string>>& metadata() const { return header_.metadata; }
  const std::shared_ptr<MappedFile>& file() const { return file_; }

  // Null if there is none.
  const TensorInfo* find(std::string_view name) const;
  // Throws not_found, naming the file and the tensors that are there.
  const TensorInfo& at(std::string_view name) const;
  // As `at`, and throws format unless the shape is the expected one.
  const TensorInfo& at(std::string_view name, const std::vector<std::uint64_t>& shape) const;

  // The tensor's bytes in the mapping. Not always aligned: old files have headers of any length.
  const std::uint8_t* bytes(const TensorInfo& tensor) const { return file_->data() + tensor.begin; }
  bool aligned(const TensorInfo& tensor) const { return tensor.begin % dtype_size(tensor.dtype) == 0; }

  // The tensor as a view that keeps the mapping alive.
  Tensor tensor(const TensorInfo& info) const;
  // Values as fp32 (see read_f32 of native/core/tensor.h).
  void read_f32(const TensorInfo& info, float* out, std::uint64_t first, std::uint64_t count) const {
    personascope::read_f32(tensor(info), first, count, out);
  }
  void read_f32(const TensorInfo& info, float* out) const { read_f32(info, out, 0, info.elements); }

 private:
  std::shared_ptr<MappedFile> file_;
  SafetensorsHeader header_;
  std::unordered_map<std::string_view, std::size_t> index_;  // views of the names in header_
};

}  // namespace personascope
