// Zip archives made by hand, so that a test can lie in any field.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "native/io/zip.h"

namespace archive {

template <class Number>
std::string little(Number number) {
  std::string bytes(sizeof number, '\0');
  std::memcpy(bytes.data(), &number, sizeof number);
  return bytes;
}
inline std::string u16(std::uint64_t number) {
  return little(static_cast<std::uint16_t>(number));
}
inline std::string u32(std::uint64_t number) {
  return little(static_cast<std::uint32_t>(number));
}
inline std::string u64(std::uint64_t number) {
  return little(number);
}

struct Entry {
  std::string name = {}, content = {};
  std::uint16_t method = 0, flags = 0;
  std::int64_t declared = -1;   // size that the directory states; the content's if negative
  std::int64_t packed = -1;     // likewise
  std::int64_t offset = -1;     // of the local header
  bool zip64 = false;           // sizes and offset in an extra field
  std::string local_name = {};  // `name` if empty
  std::uint32_t damage = 0;     // xored into the checksum
};

inline std::string zip(const std::vector<Entry>& entries, bool zip64_end = false,
                       const std::string& comment = "") {
  std::string bytes, directory;
  for (const Entry& entry : entries) {
    const auto size = static_cast<std::uint64_t>(
        entry.declared < 0 ? static_cast<std::int64_t>(entry.content.size()) : entry.declared);
    const auto packed = static_cast<std::uint64_t>(
        entry.packed < 0 ? static_cast<std::int64_t>(entry.content.size()) : entry.packed);
    const auto offset =
        static_cast<std::uint64_t>(entry.offset < 0 ? static_cast<std::int64_t>(bytes.size()) : entry.offset);
    const auto crc =
        entry.damage ^ personascope::crc32(reinterpret_cast<const std::uint8_t*>(entry.content.data()),
                                           entry.content.size());
    const std::string local = entry.local_name.empty() ? entry.name : entry.local_name;
    bytes += u32(0x04034b50) + u16(20) + u16(entry.flags) + u16(entry.method) + u32(0) + u32(crc) +
             u32(entry.zip64 ? 0xffffffff : packed) + u32(entry.zip64 ? 0xffffffff : size) +
             u16(local.size()) + u16(0) + local + entry.content;
    const std::string extra =
        entry.zip64 ? u16(0x7075) + u16(1) + "x" + u16(1) + u16(24) + u64(size) + u64(packed) + u64(offset)
                    : "";
    directory += u32(0x02014b50) + u16(20) + u16(20) + u16(entry.flags) + u16(entry.method) + u32(0) +
                 u32(crc) + u32(entry.zip64 ? 0xffffffff : packed) + u32(entry.zip64 ? 0xffffffff : size) +
                 u16(entry.name.size()) + u16(extra.size()) + u16(0) + u16(0) + u16(0) + u32(0) +
                 u32(entry.zip64 ? 0xffffffff : offset) + entry.name + extra;
  }
  const std::uint64_t begin = bytes.size(), size = directory.size(), count = entries.size();
  bytes += directory;
  if (zip64_end) {
    const std::uint64_t place = bytes.size();
    bytes += u32(0x06064b50) + u64(44) + u16(45) + u16(45) + u32(0) + u32(0) + u64(count) + u64(count) +
             u64(size) + u64(begin);
    bytes += u32(0x07064b50) + u32(0) + u64(place) + u32(1);
    bytes +=
        u32(0x06054b50) + u16(0) + u16(0) + u16(0xffff) + u16(0xffff) + u32(0xffffffff) + u32(0xffffffff);
  } else {
    bytes += u32(0x06054b50) + u16(0) + u16(0) + u16(count) + u16(count) + u32(size) + u32(begin);
  }
  return bytes + u16(comment.size()) + comment;
}

// {'descr': descr, 'fortran_order': order, 'shape': shape}, then the values.
inline std::string npy(const std::string& header, const std::string& values, int version = 1) {
  const std::string length = version == 1 ? u16(header.size()) : u32(header.size());
  return "\x93NUMPY" + std::string(1, static_cast<char>(version)) + std::string(1, '\0') + length + header +
         values;
}

template <class Number>
std::string values(std::initializer_list<Number> numbers) {
  std::string bytes;
  for (const Number number : numbers) bytes += little(number);
  return bytes;
}

// Pickle opcodes (Python's pickletools).
inline std::string unicode(const std::string& text) {
  return "X" + u32(text.size()) + text;
}
inline std::string global(const std::string& module, const std::string& name) {
  return "c" + module + "\n" + name + "\n";
}
// torch._utils._rebuild_tensor_v2(('storage', torch.<type>, key, 'cpu', size), offset, shape, strides, False,
// OrderedDict()), shape and strides given as opcodes that make tuples.
inline std::string tensor(const std::string& type, const std::string& key, std::uint32_t size,
                          std::uint32_t offset, const std::string& shape, const std::string& strides) {
  return global("torch._utils", "_rebuild_tensor_v2") + "((" + unicode("storage") + global("torch", type) +
         unicode(key) + unicode("cpu") + "J" + u32(size) + "tQJ" + u32(offset) + shape + strides + "\x89" +
         global("collections", "OrderedDict") + ")RtR";
}
inline std::string pickle(const std::string& body) {
  return "\x80\x02" + body + ".";
}

}  // namespace archive
