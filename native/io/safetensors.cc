#include "native/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "native/core/error.h"
#include "native/io/json.h"

namespace personascope {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxRank = 32;

// Reads the header's JSON: exactly the format's grammar, two levels deep.
class HeaderParser {
 public:
  HeaderParser(const std::uint8_t* text, std::size_t size, const std::string& where)
      : json_(text, size, where + ": safetensors header", 8) {}

  SafetensorsHeader parse() {
    if (json_.peek() != '{') json_.refuse("found no '{' at its start");
    SafetensorsHeader header;
    std::unordered_set<std::string> names;
    json_.members([&](std::string name) {
      if (!names.insert(name).second) json_.refuse("name " + quoted(name) + " appears twice");
      if (name == "__metadata__")
        read_metadata(header);
      else
        header.tensors.push_back(read_tensor(std::move(name)));
    });
    json_.skip_space();
    if (!json_.at_end()) json_.refuse("found bytes after the closing '}'");
    return header;
  }

 private:
  void read_metadata(SafetensorsHeader& header) {
    std::unordered_set<std::string> keys;
    json_.members([&](std::string key) {
      if (!keys.insert(key).second) json_.refuse("metadata key " + quoted(key) + " appears twice");
      json_.skip_space();
      if (json_.peek() != '"') json_.refuse("metadata " + quoted(key) + " is not a text");
      header.metadata.emplace_back(std::move(key), json_.read_string());
    });
  }

  TensorInfo read_tensor(std::string name) {
    TensorInfo tensor;
    tensor.name = std::move(name);
    bool has_dtype = false, has_shape = false, has_offsets = false;
    const auto once = [&](bool& seen, const char* field) {
      if (seen) json_.refuse("tensor " + quoted(tensor.name) + ": field '" + field + "' appears twice");
      seen = true;
    };
    json_.members([&](const std::string& field) {
      if (field == "dtype") {
        once(has_dtype, "dtype");
        tensor.dtype = read_dtype(tensor.name);
      } else if (field == "shape") {
        once(has_shape, "shape");
        tensor.shape = read_numbers(kMaxRank, tensor.name);
      } else if (field == "data_offsets") {
        once(has_offsets, "data_offsets");
        const auto offsets = read_numbers(2, tensor.name);
        if (offsets.size() != 2)
          json_.refuse("tensor " + quoted(tensor.name) + ": expected two data_offsets");
        tensor.begin = offsets[0];
        tensor.end = offsets[1];
      } else {
        json_.refuse("tensor " + quoted(tensor.name) + ": unknown field " + quoted(field));
      }
    });
    if (!has_dtype || !has_shape || !has_offsets)
      json_.refuse("tensor " + quoted(tensor.name) + ": field '" +
                   (!has_dtype   ? "dtype"
                    : !has_shape ? "shape"
                                 : "data_offsets") +
                   "' is missing");
    return tensor;
  }

  Dtype read_dtype(const std::string& tensor) {
    json_.skip_space();
    const std::string found = json_.read_string();
    if (const auto dtype = dtype_named(found)) return *dtype;
    json_.refuse("tensor " + quoted(tensor) + ": dtype " + quoted(found) + " is not known");
  }

  std::vector<std::uint64_t> read_numbers(std::size_t most, const std::string& tensor) {
    std::vector<std::uint64_t> numbers;
    json_.expect('[');
    if (json_.take(']')) return numbers;
    do {
      if (numbers.size() == most)
        json_.refuse("tensor " + quoted(tensor) + ": more than " + std::to_string(most) +
                     " numbers in a list");
      numbers.push_back(json_.read_whole("tensor " + quoted(tensor)));
    } while (json_.take(','));
    json_.expect(']');
    return numbers;
  }

  JsonCursor json_;
};

// Sizes from shapes, and the offsets against them and the file; makes offsets count from the file's start.
void check_layout(SafetensorsHeader& header, std::uint64_t data_begin, std::uint64_t data_size,
                  const std::string& where) {
  for (auto& tensor : header.tensors) {
    const auto refuse = [&](const std::string& problem) {
      fail(ErrorCode::format, where + ": tensor " + quoted(tensor.name) + ": " + problem);
    };
    std::uint64_t elements = 1, bytes = 0;
    bool overflow = false;
    for (const std::uint64_t extent : tensor.shape)
      overflow = overflow || __builtin_mul_overflow(elements, extent, &elements);
    overflow = overflow || __builtin_mul_overflow(elements, std::uint64_t{dtype_size(tensor.dtype)}, &bytes);
    if (overflow) refuse("shape " + shape_text(tensor.shape) + " overflows");
    if (tensor.begin > tensor.end || tensor.end > data_size)
      refuse("data_offsets " + std::to_string(tensor.begin) + " to " + std::to_string(tensor.end) +
             " lie outside the file's " + std::to_string(data_size) + " bytes of data");
    if (tensor.end - tensor.begin != bytes)
      refuse("data_offsets span " + std::to_string(tensor.end - tensor.begin) + " bytes, but shape " +
             shape_text(tensor.shape) + " of " + dtype_name(tensor.dtype) + " takes " +
             std::to_string(bytes));
    tensor.elements = elements;
  }
  std::stable_sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t covered = 0;
  for (auto& tensor : header.tensors) {
    if (tensor.begin != covered)
      fail(ErrorCode::format, where + ": tensor " + quoted(tensor.name) +
                                  (tensor.begin < covered ? " overlaps another one" : " follows a hole") +
                                  " (its bytes start at " + std::to_string(tensor.begin) + ", expected " +
                                  std::to_string(covered) + ")");
    covered = tensor.end;
    tensor.begin += data_begin;
    tensor.end += data_begin;
  }
  if (covered != data_size)
    fail(ErrorCode::format, where + ": the tensors take " + std::to_string(covered) + " bytes, found " +
                                std::to_string(data_size) + " bytes of data");
}

}  // namespace

SafetensorsHeader parse_safetensors(const std::uint8_t* bytes, std::size_t size, const std::string& where) {
  require(size >= 8, ErrorCode::format,
          where + ": found " + std::to_string(size) + " bytes, too few for a safetensors file");
  std::uint64_t length = 0;
  std::memcpy(&length, bytes, 8);
  require(length <= kMaxHeader && length <= size - 8, ErrorCode::format,
          where + ": safetensors header of " + std::to_string(length) + " bytes in a file of " +
              std::to_string(size) + " bytes: truncated, or not a safetensors file");
  auto header = HeaderParser(bytes + 8, static_cast<std::size_t>(length), where).parse();
  check_layout(header, 8 + length, size - 8 - length, where);
  return header;
}

SafetensorsFile::SafetensorsFile(const std::string& path)
    : file_(std::make_shared<MappedFile>(path)),
      header_(parse_safetensors(file_->data(), file_->size(), path)) {
  index_.reserve(header_.tensors.size());
  for (std::size_t i = 0; i < header_.tensors.size(); ++i) index_.emplace(header_.tensors[i].name, i);
}

const TensorInfo* SafetensorsFile::find(std::string_view name) const {
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &header_.tensors[found->second];
}

const TensorInfo& SafetensorsFile::at(std::string_view name) const {
  if (const TensorInfo* tensor = find(name)) return *tensor;
  std::string there;
  for (std::size_t i = 0; i < header_.tensors.size() && i < 8; ++i)
    there += (i ? ", " : "") + quoted(header_.tensors[i].name);
  if (header_.tensors.size() > 8) there += ", ...";
  fail(ErrorCode::not_found,
       path() + ": no tensor " + quoted(name) + "; found " + (there.empty() ? "none" : there));
}

const TensorInfo& SafetensorsFile::at(std::string_view name, const std::vector<std::uint64_t>& shape) const {
  const TensorInfo& tensor = at(name);
  require(tensor.shape == shape, ErrorCode::format,
          path() + ": tensor " + quoted(name) + " has shape " + shape_text(tensor.shape) + ", expected " +
              shape_text(shape));
  return tensor;
}

Tensor SafetensorsFile::tensor(const TensorInfo& info) const {
  return {path() + ": tensor " + quoted(info.name), info.dtype,  info.shape,
          contiguous_strides(info.shape),           bytes(info), file_};
}

}  // namespace personascope
