#include "native/io/npy.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>

#include "native/core/error.h"
#include "native/io/byte_reader.h"
#include "native/io/json.h"

namespace personascope {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr std::size_t kMagicSize = 6, kMaxRank = 32, kMaxHeader = 1 << 16;

std::optional<Dtype> dtype_of(std::string_view descr) {
  struct Row {
    const char* descr;
    Dtype dtype;
  };
  constexpr Row kRows[] = {{"<f8", Dtype::f64}, {"<f4", Dtype::f32}, {"<f2", Dtype::f16},
                           {"<i8", Dtype::i64}, {"<i4", Dtype::i32}, {"<i2", Dtype::i16},
                           {"|i1", Dtype::i8},  {"<u8", Dtype::u64}, {"<u4", Dtype::u32},
                           {"<u2", Dtype::u16}, {"|u1", Dtype::u8},  {"|b1", Dtype::boolean}};
  for (const Row& row : kRows)
    if (descr == row.descr) return row.dtype;
  return std::nullopt;
}

// The header's literal, of exactly the form that numpy writes.
class HeaderParser {
 public:
  HeaderParser(std::string_view header, const std::string& where)
      : begin_(header.data()), at_(begin_), end_(begin_ + header.size()), where_(where) {}

  void parse(Tensor& tensor, bool& fortran) {
    bool has_descr = false, has_order = false, has_shape = false;
    expect('{');
    while (!take('}')) {
      const auto key = read_string();
      expect(':');
      bool& seen = key == "descr" ? has_descr : key == "fortran_order" ? has_order : has_shape;
      if (key != "descr" && key != "fortran_order" && key != "shape") refuse("unknown key " + quoted(key));
      if (seen) refuse("key " + quoted(key) + " appears twice");
      seen = true;
      if (key == "descr")
        tensor.dtype = read_dtype();
      else if (key == "fortran_order")
        fortran = read_bool();
      else
        tensor.shape = read_shape();
      if (!take(',')) {
        expect('}');
        break;
      }
    }
    skip_space();
    if (at_ != end_) refuse("found bytes after the closing '}'");
    if (!has_descr || !has_order || !has_shape) refuse("expected descr, fortran_order and shape");
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    fail(ErrorCode::format,
         where_ + ": npy header: " + problem + " (character " + std::to_string(at_ - begin_) + ")");
  }
  void skip_space() {
    while (at_ != end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\t')) ++at_;
  }
  bool take(char c) {
    skip_space();
    if (at_ == end_ || *at_ != c) return false;
    ++at_;
    return true;
  }
  void expect(char c) {
    if (!take(c)) refuse(std::string("expected '") + c + "'");
  }
  bool take_word(std::string_view word) {
    skip_space();
    if (std::string_view(at_, static_cast<std::size_t>(end_ - at_)).substr(0, word.size()) != word)
      return false;
    at_ += word.size();
    return true;
  }
  std::string_view read_string() {
    skip_space();
    if (at_ == end_ || (*at_ != '\'' && *at_ != '"')) refuse("expected a text");
    const char quote = *at_++;
    const char* first = at_;
    while (at_ != end_ && *at_ != quote && *at_ != '\\') ++at_;
    if (at_ == end_ || *at_ != quote) refuse("a text does not end");
    return {first, static_cast<std::size_t>(at_++ - first)};
  }
  Dtype read_dtype() {
    skip_space();
    if (at_ != end_ && *at_ == '[') refuse("a structured array, expected plain numbers");
    const auto descr = read_string();
    if (const auto dtype = dtype_of(descr)) return *dtype;
    refuse("values of type " + quoted(descr) +
           (descr == "|O" ? ": Python objects are not read" : ", expected little-endian numbers or bool"));
  }
  bool read_bool() {
    if (take_word("True")) return true;
    if (!take_word("False")) refuse("fortran_order is neither True nor False");
    return false;
  }
  std::vector<std::uint64_t> read_shape() {
    std::vector<std::uint64_t> shape;
    expect('(');
    while (!take(')')) {
      if (shape.size() == kMaxRank) refuse("more than " + std::to_string(kMaxRank) + " dimensions");
      shape.push_back(read_number());
      if (!take(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }
  std::uint64_t read_number() {
    skip_space();
    const char* first = at_;
    std::uint64_t value = 0;
    for (; at_ != end_ && *at_ >= '0' && *at_ <= '9'; ++at_)
      if (__builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
          __builtin_add_overflow(value, static_cast<std::uint64_t>(*at_ - '0'), &value))
        refuse("a number does not fit 64 bits");
    if (at_ == first) refuse("expected a whole number");
    return value;
  }

  const char* begin_;
  const char* at_;
  const char* end_;
  const std::string& where_;
};

}  // namespace

bool looks_like_npy(const std::uint8_t* bytes, std::size_t size) {
  return size >= kMagicSize && std::memcmp(bytes, kMagic, kMagicSize) == 0;
}

Tensor parse_npy(const std::uint8_t* bytes, std::size_t size, const std::string& where,
                 std::shared_ptr<const void> owner) {
  ByteReader reader(bytes, size, where + ": npy array");
  if (!looks_like_npy(bytes, size)) reader.refuse("it does not begin as one");
  reader.skip(kMagicSize);
  const std::uint8_t major = reader.u8(), minor = reader.u8();
  if (major < 1 || major > 3 || minor != 0)
    reader.refuse("version " + std::to_string(major) + "." + std::to_string(minor) + ", expected 1.0 to 3.0");
  const std::uint32_t length = major == 1 ? reader.u16() : reader.u32();
  if (length > kMaxHeader) reader.refuse("a header of " + std::to_string(length) + " bytes");
  Tensor tensor;
  tensor.name = where;
  bool fortran = false;
  HeaderParser(reader.text(length), where).parse(tensor, fortran);
  std::uint64_t needed = dtype_size(tensor.dtype);
  bool overflow = false;
  for (const std::uint64_t extent : tensor.shape)
    overflow = overflow || __builtin_mul_overflow(needed, std::max<std::uint64_t>(1, extent), &needed);
  if (overflow || needed > (std::uint64_t{1} << 62))
    reader.refuse("shape " + shape_text(tensor.shape) + " overflows");
  if (tensor.elements() == 0) needed = 0;
  if (reader.left() != needed)
    reader.refuse("found " + std::to_string(reader.left()) + " bytes of values, expected " +
                  std::to_string(needed) + " for shape " + shape_text(tensor.shape) + " of " +
                  dtype_name(tensor.dtype));
  if (fortran) {
    std::reverse(tensor.shape.begin(), tensor.shape.end());
    tensor.strides = contiguous_strides(tensor.shape);
    std::reverse(tensor.shape.begin(), tensor.shape.end());
    std::reverse(tensor.strides.begin(), tensor.strides.end());
  } else {
    tensor.strides = contiguous_strides(tensor.shape);
  }
  tensor.data = reader.at();
  tensor.owner = std::move(owner);
  return tensor;
}

}  // namespace personascope
