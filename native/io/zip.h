// The directory of a zip archive (PKWARE APPNOTE 6.3.10: end of central directory, zip64, stored and deflated
// entries), as numpy's .npz and torch's .pt files are. Entries stay where they lie.
//
// The bytes are not trusted. Refused with a format error that names the file and the entry: a directory out
// of range, entries that overlap each other or the directory, sizes that overflow or disagree, duplicate
// names, encryption, several disks, other compressions, and deflated entries whose declared size no honest
// content has (zip bombs).
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace personascope {

struct ZipEntry {
  std::string name;
  bool deflated = false;
  std::uint64_t begin = 0;   // of its data, counted from the first byte of the file
  std::uint64_t packed = 0;  // bytes in the file; `size` unless deflated
  std::uint64_t size = 0;
  std::uint32_t crc = 0;  // of the content
};

// Entries in the order of their bytes. Reads the directory and the entries' local headers, not their data.
// `where` is put before messages. Safe for arbitrary input.
std::vector<ZipEntry> parse_zip(const std::uint8_t* bytes, std::size_t size, const std::string& where);

// CRC-32 of the zip format (polynomial 0xEDB88320); `crc` goes on with an earlier piece.
std::uint32_t crc32(const std::uint8_t* bytes, std::size_t size, std::uint32_t crc = 0);

}  // namespace personascope
