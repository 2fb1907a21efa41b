#include "native/io/zip.h"

#include <random>

#include "native/core/error.h"

#include "test/native/check.h"
#include "test/native/io/archive.h"
#include "test/native/io/files.h"

using namespace personascope;
using archive::Entry;
using archive::zip;

namespace {

std::vector<ZipEntry> parse(const std::string& bytes) {
  // A copy of the exact size on the heap, so that AddressSanitizer sees a read past the end.
  std::vector<std::uint8_t> copy(bytes.begin(), bytes.end());
  return parse_zip(copy.data(), copy.size(), "test.zip");
}

bool refused(const std::string& bytes, const std::string& message) {
  return refuses([&] { parse(bytes); }, message);
}

const std::vector<Entry> kTwo = {{"a.npy", "first"}, {"deep/b", "the second"}};

}  // namespace

TEST(checksum_of_known_texts) {
  const auto crc = [](const std::string& text) {
    return crc32(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
  };
  CHECK_EQ(crc("123456789"), 0xcbf43926u);  // the check value of CRC-32/ISO-HDLC
  CHECK_EQ(crc(""), 0u);
  CHECK_EQ(crc("The quick brown fox jumps over the lazy dog"), 0x414fa339u);
  const auto* text = reinterpret_cast<const std::uint8_t*>("123456789");
  CHECK_EQ(crc32(text + 4, 5, crc32(text, 4)), 0xcbf43926u);
}

TEST(entries_are_found_plain_with_zip64_and_behind_a_comment) {
  for (const bool zip64 : {false, true})
    for (const std::string& comment : {std::string(), std::string("a comment"), std::string(65535, 'c')}) {
      auto two = kTwo;
      two[0].zip64 = zip64;
      const std::string bytes = zip(two, zip64, comment);
      const auto entries = parse(bytes);
      CHECK_EQ(entries.size(), 2u);
      CHECK(entries[0].name == "a.npy");
      CHECK(bytes.substr(entries[0].begin, entries[0].size) == "first");
      CHECK(bytes.substr(entries[1].begin, entries[1].size) == "the second");
      CHECK(!entries[1].deflated);
    }
  CHECK(parse(zip({})).empty());
  // 0xffffffff without a zip64 field is what it says.
  CHECK(refused(zip({{.name = "a", .content = "x", .declared = 0xffffffff, .packed = 0xffffffff}}),
                "lie outside the file"));
}

TEST(every_truncation_and_a_tail_are_refused) {
  for (const bool zip64 : {false, true}) {
    const std::string whole = zip(kTwo, zip64);
    for (std::size_t size = 0; size < whole.size(); ++size)
      CHECK_THROWS(parse(whole.substr(0, size)), ErrorCode::format);
    CHECK(refused(whole + "x", "no directory"));
  }
}

TEST(lies_are_refused) {
  CHECK(refused(zip({{.name = "a", .content = "x"}, {.name = "a", .content = "y"}}), "'a' appears twice"));
  CHECK(refused(zip({{.name = "a", .content = "x", .flags = 1}}), "encrypted"));
  CHECK(refused(zip({{.name = "a", .content = "x", .method = 14}}), "compression method 14"));
  CHECK(refused(zip({{.name = "a", .content = "x", .declared = 2}}),
                "stored, but takes 1 bytes for a content of 2"));
  CHECK(refused(zip({{.name = "a", .content = "x", .declared = 9000, .packed = 9000}}),
                "9000 bytes lie outside"));
  CHECK(refused(zip({{.name = "a", .content = "x", .local_name = "b"}}), "another name"));
  CHECK(refused(zip({{.name = "a", .content = std::string(40, 'x'), .offset = 5}}), "no local header"));
  CHECK(refused(zip({{.name = "a", .content = "x", .offset = 1 << 30}}), "outside the file"));
  CHECK(refused(zip({{.name = std::string("a\0b", 3), .content = "x"}}), "NUL"));
  // Two entries that share their bytes, and one nested in the other.
  CHECK(
      refused(zip({{.name = "a", .content = "x"}, {.name = "a2", .content = "y", .offset = 0}}), "overlaps"));
  const std::string inner = zip({{.name = "b", .content = "x"}}).substr(0, 32);
  CHECK(refused(zip({{.name = "a", .content = inner}, {.name = "b", .content = "x", .offset = 31}}),
                "overlaps"));
}

TEST(sizes_that_overflow_are_refused) {
  const std::int64_t huge = std::numeric_limits<std::int64_t>::max();
  CHECK(refused(zip({{.name = "a", .content = "x", .declared = huge, .packed = huge, .zip64 = true}}),
                "lie outside"));
  CHECK(refused(zip({{.name = "a", .content = "x", .offset = huge, .zip64 = true}}), "outside the file"));
  std::string bytes = zip(kTwo, true);
  // Of the zip64 end record: entries, size of the directory, its begin, each at its largest.
  const std::size_t record = bytes.size() - 22 - 20 - 56;
  for (const std::size_t field : {24, 32, 40, 48}) {
    std::string lying = bytes;
    lying.replace(record + field, 8, std::string(8, '\xff'));
    CHECK_THROWS(parse(lying), ErrorCode::format);
  }
  std::string locator = bytes;
  locator.replace(bytes.size() - 22 - 20 + 8, 8, std::string(8, '\xff'));
  CHECK(refused(locator, "zip64 end record lies outside"));
}

TEST(bombs_are_refused) {
  // 1 KB that claims to unpack to 1 GB.
  CHECK(refused(zip({{.name = "a.npy", .content = std::string(1024, 'x'), .method = 8, .declared = 1 << 30}}),
                "zip bomb"));
  // Small arrays of zeros pack well, honestly.
  CHECK(
      parse(zip({{.name = "a.npy", .content = std::string(1024, 'x'), .method = 8, .declared = 1 << 20}}))[0]
          .deflated);
  // A directory that claims more entries than any file of ours has.
  std::string bytes = zip(kTwo, true);
  const std::size_t record = bytes.size() - 22 - 20 - 56;
  bytes.replace(record + 24, 16, archive::u64(1ull << 40) + archive::u64(1ull << 40));
  CHECK(refused(bytes, "entries, expected at most"));
}

TEST(random_damage_never_reads_outside) {
  const std::string whole = zip(kTwo, true, "comment");
  std::mt19937 random(7);
  for (int round = 0; round < 20000; ++round) {
    std::string damaged = whole;
    for (int flips = 0; flips < 3; ++flips) damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      for (const auto& entry : parse(damaged)) CHECK(entry.begin + entry.packed <= damaged.size());
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::format);
    }
  }
}
