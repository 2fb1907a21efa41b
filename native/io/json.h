// JSON (RFC 8259) from untrusted bytes. JsonCursor reads texts, punctuation and space, for parsers of one
// grammar (the header of safetensors); parse_json reads a whole document, for configurations.
//
// Strict: UTF-8 is checked, no lone surrogates, no control characters in texts, no duplicate members, no NaN,
// nothing after the document; at most 64 levels deep.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace personascope {

// A text from a file as it may stand in a message: bounded, without control characters.
std::string quoted(std::string_view text);

class JsonCursor {
 public:
  // `what` begins messages: the file, and what is read in it. `first` is the place of the first byte in the
  // file.
  JsonCursor(const std::uint8_t* text, std::size_t size, std::string what, std::size_t first = 0)
      : begin_(text), at_(text), end_(text + size), what_(std::move(what)), first_(first) {}

  // Throws format, naming the place.
  [[noreturn]] void refuse(const std::string& problem) const;
  bool at_end() const { return at_ == end_; }
  // The next byte, 0 at the end.
  char peek() const { return at_ == end_ ? '\0' : static_cast<char>(*at_); }
  void skip_space();
  // Skips space, then takes `c` if it comes next.
  bool take(char c);
  void expect(char c);
  // A text in quotes that begins here.
  std::string read_string();
  // A whole number of 64 bits without sign; `of` begins the message.
  std::uint64_t read_whole(const std::string& of);
  double read_double();
  // Takes `word` if it comes next.
  bool take_word(std::string_view word);

  // '{' name ':' value, ... '}'; member(name) reads the value.
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

 private:
  void read_utf8(std::string& out);
  void read_escape(std::string& out);
  std::uint32_t read_hex4();

  const std::uint8_t* begin_;
  const std::uint8_t* at_;
  const std::uint8_t* end_;
  std::string what_;
  std::size_t first_;
};

struct JsonMember;

struct JsonValue {
  enum class Kind { null, boolean, number, text, array, object };
  Kind kind = Kind::null;
  bool boolean = false;
  double number = 0;
  std::string text;
  std::vector<JsonValue> items;
  std::vector<JsonMember> members;

  bool is(Kind wanted) const { return kind == wanted; }
  // The member of that name of an object; null if there is none, or this is no object.
  const JsonValue* find(std::string_view name) const;
};

struct JsonMember {
  std::string name;
  JsonValue value;
};

JsonValue parse_json(const std::uint8_t* text, std::size_t size, const std::string& where);

}  // namespace personascope
