// Little-endian numbers and texts from untrusted bytes, front to back; reading past the end is a format
// error.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

#include "native/core/error.h"

namespace personascope {

class ByteReader {
 public:
  // `what` begins messages: the file, and what is read in it. `first` is the place of the first byte there.
  ByteReader(const std::uint8_t* bytes, std::size_t size, std::string what, std::uint64_t first = 0)
      : begin_(bytes), at_(bytes), end_(bytes + size), what_(std::move(what)), first_(first) {}

  [[noreturn]] void refuse(const std::string& problem) const {
    fail(ErrorCode::format, what_ + ": " + problem + " (byte " +
                                std::to_string(first_ + static_cast<std::uint64_t>(at_ - begin_)) + ")");
  }
  std::size_t left() const { return static_cast<std::size_t>(end_ - at_); }
  std::size_t position() const { return static_cast<std::size_t>(at_ - begin_); }
  const std::uint8_t* at() const { return at_; }

  const std::uint8_t* skip(std::uint64_t size) {
    if (size > left())
      refuse("truncated: " + std::to_string(size) + " bytes needed, " + std::to_string(left()) + " left");
    const auto* start = at_;
    at_ += size;
    return start;
  }
  template <class Number>
  Number read() {
    Number value;
    std::memcpy(&value, skip(sizeof(Number)), sizeof(Number));
    return value;
  }
  std::uint8_t u8() { return read<std::uint8_t>(); }
  std::uint16_t u16() { return read<std::uint16_t>(); }
  std::uint32_t u32() { return read<std::uint32_t>(); }
  std::uint64_t u64() { return read<std::uint64_t>(); }
  std::string_view text(std::uint64_t size) {
    return {reinterpret_cast<const char*>(skip(size)), static_cast<std::size_t>(size)};
  }
  // Up to a line feed, which is taken too.
  std::string_view line() {
    const auto* found = static_cast<const std::uint8_t*>(left() ? std::memchr(at_, '\n', left()) : nullptr);
    if (found == nullptr) refuse("a line does not end");
    const auto line = text(static_cast<std::uint64_t>(found - at_));
    ++at_;
    return line;
  }

 private:
  const std::uint8_t* begin_;
  const std::uint8_t* at_;
  const std::uint8_t* end_;
  std::string what_;
  std::uint64_t first_;
};

}  // namespace personascope
