#include "native/io/zip.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "native/core/error.h"
#include "native/io/byte_reader.h"
#include "native/io/json.h"

namespace personascope {
namespace {

constexpr std::uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50;
constexpr std::uint32_t kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr std::size_t kEndSize = 22, kLocatorSize = 20, kLocalSize = 30;
constexpr std::uint32_t kAbsent32 = 0xffffffff;  // the number stands in a zip64 field
constexpr std::uint64_t kMaxEntries = 100'000;
// Deflate reaches 1032 : 1 on zeros; weights hardly 2 : 1. Small entries of zeros are left alone.
constexpr std::uint64_t kFreeSize = std::uint64_t{1} << 26, kMaxRatio = 64;

struct Directory {
  std::uint64_t begin = 0, size = 0, entries = 0;
  std::uint64_t end = 0;  // where the records after it begin
};

class ZipParser {
 public:
  ZipParser(const std::uint8_t* bytes, std::size_t size, const std::string& where)
      : bytes_(bytes), size_(size), where_(where) {}

  std::vector<ZipEntry> parse() {
    const Directory directory = find_directory();
    if (directory.entries > kMaxEntries)
      refuse(std::to_string(directory.entries) + " entries, expected at most " + std::to_string(kMaxEntries));
    if (directory.begin > directory.end || directory.size > directory.end - directory.begin)
      refuse("the directory (" + std::to_string(directory.size) + " bytes at " +
             std::to_string(directory.begin) + ") lies outside the file");
    auto reader = at(directory.begin, directory.size, "zip directory");
    std::vector<ZipEntry> entries;
    std::unordered_set<std::string> names;
    for (std::uint64_t i = 0; i < directory.entries; ++i) {
      ZipEntry entry = read_entry(reader);
      if (!names.insert(entry.name).second) refuse("entry " + quoted(entry.name) + " appears twice");
      entries.push_back(std::move(entry));
    }
    if (reader.left() != 0) reader.refuse("bytes after the last entry");
    place(entries, directory.begin);
    return entries;
  }

 private:
  [[noreturn]] void refuse(const std::string& problem) const {
    fail(ErrorCode::format, where_ + ": zip archive: " + problem);
  }
  ByteReader at(std::uint64_t begin, std::uint64_t size, const char* what) const {
    return {bytes_ + begin, static_cast<std::size_t>(size), where_ + ": " + what, begin};
  }

  Directory find_directory() const {
    if (size_ < kEndSize) refuse("found " + std::to_string(size_) + " bytes, too few");
    // A comment of up to 65535 bytes may follow.
    const std::size_t last = size_ - kEndSize;
    const std::size_t lowest = last > 0xffff ? last - 0xffff : 0;
    for (std::size_t place = last + 1; place-- > lowest;) {
      std::uint32_t signature = 0;
      std::memcpy(&signature, bytes_ + place, 4);
      std::uint16_t comment = 0;
      std::memcpy(&comment, bytes_ + place + 20, 2);
      if (signature == kEnd && comment == last - place) return read_end(place);
    }
    refuse("no directory at its end: truncated, or no zip archive");
  }

  Directory read_end(std::size_t place) const {
    auto reader = at(place, kEndSize, "zip end record");
    reader.skip(4);
    const std::uint16_t disk = reader.u16(), first_disk = reader.u16();
    const std::uint16_t here = reader.u16(), entries = reader.u16();
    const std::uint32_t size = reader.u32(), begin = reader.u32();
    const bool wide = disk == 0xffff || first_disk == 0xffff || here == 0xffff || entries == 0xffff ||
                      size == kAbsent32 || begin == kAbsent32;
    if (const auto locator = wide ? locator_before(place) : std::nullopt) return read_end64(*locator, place);
    if (disk != 0 || first_disk != 0 || here != entries) refuse("it spans several disks");
    return {begin, size, entries, place};
  }

  std::optional<std::uint64_t> locator_before(std::size_t place) const {
    if (place < kLocatorSize) return std::nullopt;
    auto reader = at(place - kLocatorSize, kLocatorSize, "zip64 locator");
    if (reader.u32() != kLocator64) return std::nullopt;
    const std::uint32_t disk = reader.u32();
    const std::uint64_t end = reader.u64();
    if (disk != 0 || reader.u32() > 1) refuse("it spans several disks");
    return end;
  }

  Directory read_end64(std::uint64_t place, std::size_t end) const {
    const std::uint64_t limit = end - kLocatorSize;
    if (place > limit) refuse("the zip64 end record lies outside the file");
    auto reader = at(place, limit - place, "zip64 end record");
    if (reader.u32() != kEnd64) reader.refuse("expected a zip64 end record");
    reader.skip(8 + 2 + 2);  // its size, the versions made by and needed
    const std::uint32_t disk = reader.u32(), first_disk = reader.u32();
    const std::uint64_t here = reader.u64(), entries = reader.u64();
    const std::uint64_t size = reader.u64(), begin = reader.u64();
    if (disk != 0 || first_disk != 0 || here != entries) refuse("it spans several disks");
    return {begin, size, entries, place};
  }

  ZipEntry read_entry(ByteReader& reader) const {
    if (reader.u32() != kCentral) reader.refuse("expected an entry of the directory");
    reader.skip(2 + 2);  // versions
    const std::uint16_t flags = reader.u16(), method = reader.u16();
    reader.skip(2 + 2);  // time and date
    ZipEntry entry;
    entry.crc = reader.u32();
    const std::uint32_t packed = reader.u32(), size = reader.u32();
    const std::uint16_t name = reader.u16(), extra = reader.u16(), comment = reader.u16();
    const std::uint16_t disk = reader.u16();
    reader.skip(2 + 4);  // attributes
    const std::uint32_t begin = reader.u32();
    entry.name = reader.text(name);
    entry.packed = packed;
    entry.size = size;
    entry.begin = begin;
    read_zip64(reader.text(extra), size == kAbsent32, packed == kAbsent32, begin == kAbsent32, entry);
    reader.skip(comment);
    const auto stop = [&](const std::string& problem) {
      refuse("entry " + quoted(entry.name) + ": " + problem);
    };
    if (entry.name.find('\0') != std::string::npos) stop("its name holds a NUL character");
    if (flags & 1) stop("it is encrypted");
    if (disk != 0 && disk != 0xffff) stop("it lies on another disk");
    if (method != 0 && method != 8)
      stop("compression method " + std::to_string(method) + ", expected 0 (stored) or 8 (deflated)");
    entry.deflated = method == 8;
    if (!entry.deflated && entry.packed != entry.size)
      stop("stored, but takes " + std::to_string(entry.packed) + " bytes for a content of " +
           std::to_string(entry.size));
    if (entry.deflated && entry.size > kFreeSize && entry.size / kMaxRatio > entry.packed)
      stop("it declares " + std::to_string(entry.size) + " bytes packed into " +
           std::to_string(entry.packed) + ": refused as a zip bomb");
    return entry;
  }

  // The zip64 extra field (id 1) holds, in this order, those numbers that do not fit.
  void read_zip64(std::string_view extra, bool size, bool packed, bool begin, ZipEntry& entry) const {
    if (!size && !packed && !begin) return;
    ByteReader fields(reinterpret_cast<const std::uint8_t*>(extra.data()), extra.size(),
                      where_ + ": zip entry " + quoted(entry.name) + ": extra field");
    while (fields.left() >= 4) {
      const std::uint16_t id = fields.u16(), length = fields.u16();
      const auto body = fields.text(length);
      if (id != 1) continue;
      ByteReader numbers(reinterpret_cast<const std::uint8_t*>(body.data()), body.size(),
                         where_ + ": zip entry " + quoted(entry.name) + ": zip64 field");
      if (size) entry.size = numbers.u64();
      if (packed) entry.packed = numbers.u64();
      if (begin) entry.begin = numbers.u64();
      return;
    }
    // 0xffffffff may also be meant literally, in an archive without zip64.
  }

  // From the local headers to the data, which must lie in the file, before the directory, and not overlap.
  void place(std::vector<ZipEntry>& entries, std::uint64_t limit) const {
    std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
    std::uint64_t covered = 0;
    for (ZipEntry& entry : entries) {
      const auto stop = [&](const std::string& problem) {
        refuse("entry " + quoted(entry.name) + ": " + problem);
      };
      if (entry.begin < covered) stop("it overlaps another entry");
      if (entry.begin > limit || limit - entry.begin < kLocalSize) stop("it lies outside the file");
      auto reader = at(entry.begin, limit - entry.begin, "zip entry");
      if (reader.u32() != kLocal) stop("no local header at byte " + std::to_string(entry.begin));
      reader.skip(2 + 2);
      if ((reader.u16() == 8) != entry.deflated) stop("its local header names another compression");
      reader.skip(2 + 2 + 4 + 4 + 4);  // the directory's checksum and sizes count
      const std::uint16_t name = reader.u16(), extra = reader.u16();
      if (reader.text(name) != entry.name) stop("its local header bears another name");
      reader.skip(extra);
      if (entry.packed > reader.left()) stop(std::to_string(entry.packed) + " bytes lie outside the file");
      entry.begin += reader.position();
      covered = entry.begin + entry.packed;
    }
  }

  const std::uint8_t* bytes_;
  std::size_t size_;
  const std::string& where_;
};

// Table t of byte b: what b does to the checksum with t zero bytes after it.
constexpr auto kTables = [] {
  std::array<std::array<std::uint32_t, 256>, 8> tables{};
  for (std::uint32_t byte = 0; byte < 256; ++byte) {
    std::uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ (value & 1 ? 0xedb88320u : 0);
    tables[0][byte] = value;
  }
  for (std::size_t table = 1; table < 8; ++table)
    for (std::size_t byte = 0; byte < 256; ++byte)
      tables[table][byte] = tables[table - 1][byte] >> 8 ^ tables[0][tables[table - 1][byte] & 0xff];
  return tables;
}();

}  // namespace

std::vector<ZipEntry> parse_zip(const std::uint8_t* bytes, std::size_t size, const std::string& where) {
  return ZipParser(bytes, size, where).parse();
}

std::uint32_t crc32(const std::uint8_t* bytes, std::size_t size, std::uint32_t crc) {
  crc = ~crc;
  for (; size >= 8; size -= 8, bytes += 8) {
    std::uint64_t word;
    std::memcpy(&word, bytes, 8);
    word ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][word >> 8 * i & 0xff];
  }
  for (; size > 0; --size) crc = crc >> 8 ^ kTables[0][(crc ^ *bytes++) & 0xff];
  return ~crc;
}

}  // namespace personascope
