#include "native/io/safetensors.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "native/core/error.h"

namespace personascope {
namespace {

constexpr std::uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxRank = 32;

// A name from the file as it may stand in a message: bounded, without control characters.
std::string quoted(std::string_view text) {
  std::string out = "'";
  for (char c : text.substr(0, 80)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  if (text.size() > 80) {
    while (!out.empty() && (static_cast<unsigned char>(out.back()) & 0xc0u) == 0x80u) out.pop_back();
    if (static_cast<unsigned char>(out.back()) >= 0xc0u) out.pop_back();
    out += "...";
  }
  return out + "'";
}

// Reads the header's JSON: a recursive-descent parser of exactly the format's grammar, two levels deep.
class HeaderParser {
 public:
  HeaderParser(const std::uint8_t* text, std::size_t size, const std::string& where)
      : begin_(text), at_(text), end_(text + size), where_(where) {}

  SafetensorsHeader parse() {
    if (at_ == end_ || *at_ != '{') refuse("found no '{' at its start");
    SafetensorsHeader header;
    std::unordered_set<std::string> names;
    members([&](std::string name) {
      if (!names.insert(name).second) refuse("name " + quoted(name) + " appears twice");
      if (name == "__metadata__")
        read_metadata(header);
      else
        header.tensors.push_back(read_tensor(std::move(name)));
    });
    skip_space();
    if (at_ != end_) refuse("found bytes after the closing '}'");
    return header;
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    fail(ErrorCode::format,
         where_ + ": safetensors header: " + problem + " (byte " + std::to_string(8 + (at_ - begin_)) + ")");
  }

  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ == end_ || *at_ != static_cast<std::uint8_t>(c)) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) refuse(std::string("expected '") + c + "'");
  }

  // '{' name ':' value, ... '}'; `member` reads the value.
  template <class Member>
  void members(Member&& member) {
    expect('{');
    if (take('}')) return;
    do {
      skip_space();
      std::string name = read_string();
      expect(':');
      member(std::move(name));
    } while (take(','));
    expect('}');
  }

  void read_metadata(SafetensorsHeader& header) {
    std::unordered_set<std::string> keys;
    members([&](std::string key) {
      if (!keys.insert(key).second) refuse("metadata key " + quoted(key) + " appears twice");
      skip_space();
      if (at_ == end_ || *at_ != '"') refuse("metadata " + quoted(key) + " is not a text");
      header.metadata.emplace_back(std::move(key), read_string());
    });
  }

  TensorInfo read_tensor(std::string name) {
    TensorInfo tensor;
    tensor.name = std::move(name);
    bool has_dtype = false, has_shape = false, has_offsets = false;
    const auto once = [&](bool& seen, const char* field) {
      if (seen) refuse("tensor " + quoted(tensor.name) + ": field '" + field + "' appears twice");
      seen = true;
    };
    members([&](const std::string& field) {
      if (field == "dtype") {
        once(has_dtype, "dtype");
        tensor.dtype = read_dtype(tensor.name);
      } else if (field == "shape") {
        once(has_shape, "shape");
        tensor.shape = read_numbers(kMaxRank, tensor.name);
      } else if (field == "data_offsets") {
        once(has_offsets, "data_offsets");
        const auto offsets = read_numbers(2, tensor.name);
        if (offsets.size() != 2) refuse("tensor " + quoted(tensor.name) + ": expected two data_offsets");
        tensor.begin = offsets[0];
        tensor.end = offsets[1];
      } else {
        refuse("tensor " + quoted(tensor.name) + ": unknown field " + quoted(field));
      }
    });
    if (!has_dtype || !has_shape || !has_offsets)
      refuse("tensor " + quoted(tensor.name) + ": field '" +
             (!has_dtype   ? "dtype"
              : !has_shape ? "shape"
                           : "data_offsets") +
             "' is missing");
    return tensor;
  }

  Dtype read_dtype(const std::string& tensor) {
    skip_space();
    const std::string found = read_string();
    if (const auto dtype = dtype_named(found)) return *dtype;
    refuse("tensor " + quoted(tensor) + ": dtype " + quoted(found) + " is not known");
  }

  std::vector<std::uint64_t> read_numbers(std::size_t most, const std::string& tensor) {
    std::vector<std::uint64_t> numbers;
    expect('[');
    if (take(']')) return numbers;
    do {
      if (numbers.size() == most)
        refuse("tensor " + quoted(tensor) + ": more than " + std::to_string(most) + " numbers in a list");
      numbers.push_back(read_number(tensor));
    } while (take(','));
    expect(']');
    return numbers;
  }

  std::uint64_t read_number(const std::string& tensor) {
    skip_space();
    const auto* first = at_;
    std::uint64_t value = 0;
    while (at_ != end_ && *at_ >= '0' && *at_ <= '9') {
      const std::uint64_t digit = *at_ - '0';
      if (__builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
          __builtin_add_overflow(value, digit, &value))
        refuse("tensor " + quoted(tensor) + ": a number does not fit 64 bits");
      ++at_;
    }
    if (at_ == first) refuse("tensor " + quoted(tensor) + ": expected a whole number");
    if (*first == '0' && at_ - first > 1) refuse("tensor " + quoted(tensor) + ": a number starts with 0");
    return value;
  }

  std::string read_string() {
    if (at_ == end_ || *at_ != '"') refuse("expected '\"'");
    ++at_;
    std::string out;
    for (;;) {
      if (at_ == end_) refuse("a text does not end");
      const std::uint8_t c = *at_;
      if (c == '"') break;
      if (c < 0x20) refuse("a control character in a text");
      if (c == '\\')
        read_escape(out);
      else if (c < 0x80)
        out += static_cast<char>(*at_++);
      else
        read_utf8(out);
    }
    ++at_;
    return out;
  }

  // One character of two to four bytes: shortest form, no surrogates, at most U+10FFFF (RFC 3629).
  void read_utf8(std::string& out) {
    const std::uint8_t first = *at_;
    const int more = first >= 0xc2 && first <= 0xdf   ? 1
                     : first >= 0xe0 && first <= 0xef ? 2
                     : first >= 0xf0 && first <= 0xf4 ? 3
                                                      : 0;
    if (more == 0 || end_ - at_ <= more) refuse("invalid UTF-8");
    for (int i = 1; i <= more; ++i)
      if ((at_[i] & 0xc0u) != 0x80u) refuse("invalid UTF-8");
    const std::uint8_t second = at_[1];
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
      refuse("invalid UTF-8");
    out.append(reinterpret_cast<const char*>(at_), static_cast<std::size_t>(more) + 1);
    at_ += more + 1;
  }

  void read_escape(std::string& out) {
    ++at_;
    if (at_ == end_) refuse("a text does not end");
    const char c = static_cast<char>(*at_++);
    switch (c) {
      case '"':
      case '\\':
      case '/':
        out += c;
        return;
      case 'b':
        out += '\b';
        return;
      case 'f':
        out += '\f';
        return;
      case 'n':
        out += '\n';
        return;
      case 'r':
        out += '\r';
        return;
      case 't':
        out += '\t';
        return;
      case 'u':
        break;
      default:
        refuse("unknown escape in a text");
    }
    std::uint32_t point = read_hex4();
    if (point >= 0xdc00 && point <= 0xdfff) refuse("a lone surrogate in a text");
    if (point >= 0xd800 && point <= 0xdbff) {
      if (end_ - at_ < 2 || at_[0] != '\\' || at_[1] != 'u') refuse("a lone surrogate in a text");
      at_ += 2;
      const std::uint32_t low = read_hex4();
      if (low < 0xdc00 || low > 0xdfff) refuse("a lone surrogate in a text");
      point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
    }
    append_utf8(out, point);
  }

  std::uint32_t read_hex4() {
    if (end_ - at_ < 4) refuse("a \\u escape is cut off");
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i) {
      const std::uint8_t c = *at_++;
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) refuse("a \\u escape holds no hexadecimal digit");
      value = value << 4 | static_cast<std::uint32_t>(digit);
    }
    return value;
  }

  static void append_utf8(std::string& out, std::uint32_t point) {
    const auto byte = [&](std::uint32_t value) { out += static_cast<char>(value); };
    if (point < 0x80) {
      byte(point);
    } else if (point < 0x800) {
      byte(0xc0 | point >> 6);
      byte(0x80 | (point & 0x3f));
    } else if (point < 0x10000) {
      byte(0xe0 | point >> 12);
      byte(0x80 | (point >> 6 & 0x3f));
      byte(0x80 | (point & 0x3f));
    } else {
      byte(0xf0 | point >> 18);
      byte(0x80 | (point >> 12 & 0x3f));
      byte(0x80 | (point >> 6 & 0x3f));
      byte(0x80 | (point & 0x3f));
    }
  }

  const std::uint8_t* begin_;
  const std::uint8_t* at_;
  const std::uint8_t* end_;
  const std::string& where_;
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
