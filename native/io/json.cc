#include "native/io/json.h"

#include <charconv>
#include <cmath>
#include <system_error>
#include <unordered_set>

#include "native/core/error.h"

namespace personascope {

namespace {

constexpr int kDeepest = 64;

void append_utf8(std::string& out, std::uint32_t point) {
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

bool digit(char c) {
  return c >= '0' && c <= '9';
}

JsonValue read_value(JsonCursor& cursor, int depth) {
  if (depth > kDeepest) cursor.refuse("more than " + std::to_string(kDeepest) + " levels deep");
  cursor.skip_space();
  JsonValue value;
  const char next = cursor.peek();
  if (next == '{') {
    value.kind = JsonValue::Kind::object;
    std::unordered_set<std::string> names;
    cursor.members([&](std::string name) {
      if (!names.insert(name).second) cursor.refuse("member " + quoted(name) + " appears twice");
      value.members.push_back({std::move(name), read_value(cursor, depth + 1)});
    });
  } else if (next == '[') {
    value.kind = JsonValue::Kind::array;
    cursor.expect('[');
    if (!cursor.take(']')) {
      do value.items.push_back(read_value(cursor, depth + 1));
      while (cursor.take(','));
      cursor.expect(']');
    }
  } else if (next == '"') {
    value.kind = JsonValue::Kind::text;
    value.text = cursor.read_string();
  } else if (next == '-' || digit(next)) {
    value.kind = JsonValue::Kind::number;
    value.number = cursor.read_double();
  } else if (cursor.take_word("true")) {
    value.kind = JsonValue::Kind::boolean;
    value.boolean = true;
  } else if (cursor.take_word("false")) {
    value.kind = JsonValue::Kind::boolean;
  } else if (!cursor.take_word("null")) {
    cursor.refuse("expected a value");
  }
  return value;
}

}  // namespace

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

void JsonCursor::refuse(const std::string& problem) const {
  fail(ErrorCode::format, what_ + ": " + problem + " (byte " +
                              std::to_string(first_ + static_cast<std::size_t>(at_ - begin_)) + ")");
}

void JsonCursor::skip_space() {
  while (at_ != end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) ++at_;
}

bool JsonCursor::take(char c) {
  skip_space();
  if (at_ == end_ || *at_ != static_cast<std::uint8_t>(c)) return false;
  ++at_;
  return true;
}

void JsonCursor::expect(char c) {
  if (!take(c)) refuse(std::string("expected '") + c + "'");
}

bool JsonCursor::take_word(std::string_view word) {
  const std::string_view left(reinterpret_cast<const char*>(at_), static_cast<std::size_t>(end_ - at_));
  if (left.substr(0, word.size()) != word) return false;
  at_ += word.size();
  return true;
}

std::uint64_t JsonCursor::read_whole(const std::string& of) {
  skip_space();
  const auto* first = at_;
  std::uint64_t value = 0;
  while (at_ != end_ && digit(static_cast<char>(*at_))) {
    if (__builtin_mul_overflow(value, std::uint64_t{10}, &value) ||
        __builtin_add_overflow(value, static_cast<std::uint64_t>(*at_ - '0'), &value))
      refuse(of + ": a number does not fit 64 bits");
    ++at_;
  }
  if (at_ == first) refuse(of + ": expected a whole number");
  if (*first == '0' && at_ - first > 1) refuse(of + ": a number starts with 0");
  return value;
}

double JsonCursor::read_double() {
  // from_chars takes more than JSON does ("01", "1.", "inf"): the grammar first.
  const auto* p = at_;
  const auto digits = [&] {
    const auto* first = p;
    while (p != end_ && digit(static_cast<char>(*p))) ++p;
    if (p == first) refuse("a number without digits");
  };
  if (p != end_ && *p == '-') ++p;
  if (end_ - p > 1 && *p == '0' && digit(static_cast<char>(p[1]))) refuse("a number starts with 0");
  digits();
  if (p != end_ && *p == '.') {
    ++p;
    digits();
  }
  if (p != end_ && (*p == 'e' || *p == 'E')) {
    ++p;
    if (p != end_ && (*p == '+' || *p == '-')) ++p;
    digits();
  }
  double value = 0;
  const auto read =
      std::from_chars(reinterpret_cast<const char*>(at_), reinterpret_cast<const char*>(p), value);
  if (read.ec != std::errc() || !std::isfinite(value)) refuse("a number that fp64 cannot hold");
  at_ = p;
  return value;
}

std::string JsonCursor::read_string() {
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
void JsonCursor::read_utf8(std::string& out) {
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

void JsonCursor::read_escape(std::string& out) {
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

std::uint32_t JsonCursor::read_hex4() {
  if (end_ - at_ < 4) refuse("a \\u escape is cut off");
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const std::uint8_t c = *at_++;
    const int hex = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
    if (hex < 0) refuse("a \\u escape holds no hexadecimal digit");
    value = value << 4 | static_cast<std::uint32_t>(hex);
  }
  return value;
}

const JsonValue* JsonValue::find(std::string_view name) const {
  for (const auto& [key, value] : members)
    if (key == name) return &value;
  return nullptr;
}

JsonValue parse_json(const std::uint8_t* text, std::size_t size, const std::string& where) {
  JsonCursor cursor(text, size, where + ": JSON");
  JsonValue value = read_value(cursor, 1);
  cursor.skip_space();
  if (!cursor.at_end()) cursor.refuse("found bytes after the document");
  return value;
}

}  // namespace personascope
