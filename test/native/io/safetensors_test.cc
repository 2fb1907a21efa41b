#include "native/io/safetensors.h"

#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "native/core/half.h"
#include "native/core/random.h"
#include "test/native/check.h"
#include "test/native/io/files.h"

using namespace personascope;

namespace {

std::string file_bytes(const std::string& header, std::size_t data, std::uint64_t length) {
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data, '\x01');
}
std::string file_bytes(const std::string& header, std::size_t data) {
  return file_bytes(header, data, header.size());
}
SafetensorsHeader parse(const std::string& bytes) {
  // A copy of the exact size on the heap, so that AddressSanitizer sees a read past the end.
  std::vector<std::uint8_t> copy(bytes.begin(), bytes.end());
  return parse_safetensors(copy.data(), copy.size(), "test");
}
SafetensorsHeader parse(const std::string& header, std::size_t data) {
  return parse(file_bytes(header, data));
}

bool refused(const std::string& header, std::size_t data, const std::string& message) {
  return refuses([&] { parse(header, data); }, message);
}

const std::string kGood =
    R"({"__metadata__":{"a":"b"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b":{"shape":[],"data_offsets":[24,26],"dtype":"BF16"},"e":{"dtype":"U8","shape":[0,9],"data_offsets":[26,26]}}   )";

}  // namespace

TEST(a_good_header_is_read) {
  const auto header = parse(kGood, 26);
  CHECK_EQ(header.tensors.size(), 3u);
  CHECK(header.tensors[0].name == "w");
  CHECK(header.tensors[0].shape == (std::vector<std::uint64_t>{2, 3}));
  CHECK_EQ(header.tensors[0].elements, 6u);
  CHECK_EQ(header.tensors[0].begin, 8 + kGood.size());
  CHECK_EQ(header.tensors[1].elements, 1u);
  CHECK(header.tensors[1].dtype == Dtype::bf16);
  CHECK_EQ(header.tensors[2].elements, 0u);
  CHECK(header.metadata == (std::vector<std::pair<std::string, std::string>>{{"a", "b"}}));
  CHECK_EQ(parse("{}", 0).tensors.size(), 0u);
}

TEST(escapes_and_utf8_in_names) {
  const auto header =
      parse(R"({"\u00e9\ud83d\ude00\n\"é":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1);
  CHECK(header.tensors[0].name == "é😀\n\"é");
}

TEST(every_truncation_is_refused) {
  const std::string good = file_bytes(kGood, 26);
  for (std::size_t size = 0; size < good.size(); ++size)
    CHECK_THROWS(parse(good.substr(0, size)), ErrorCode::format);
  CHECK_THROWS(parse(good + "x"), ErrorCode::format);
}

TEST(lying_header_lengths_are_refused) {
  for (std::uint64_t length : {~0ull, 1ull << 63, 100'000'001ull, 1000ull, 0ull, 1ull})
    CHECK_THROWS(parse(file_bytes(kGood, 26, length)), ErrorCode::format);
}

TEST(lying_layouts_are_refused) {
  const auto one = [](const std::string& shape, const std::string& offsets) {
    return R"({"w":{"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
  };
  CHECK(refused(one("[2]", "[0,16]"), 16, "span 16 bytes"));
  CHECK(refused(one("[4]", "[0,16]"), 12, "outside the file"));
  CHECK(refused(one("[4]", "[16,0]"), 16, "outside the file"));
  CHECK(refused(one("[4]", "[4,20]"), 20, "follows a hole"));
  CHECK(refused(one("[4]", "[0,16]"), 20, "take 16 bytes, found 20"));
  CHECK(refused(one("[4294967296,4294967296]", "[0,0]"), 0, "overflows"));
  CHECK(refused(one("[4611686018427387904]", "[0,0]"), 0, "overflows"));
  CHECK(refused(one("[18446744073709551616]", "[0,0]"), 0, "64 bits"));
  CHECK(refused(one("[-1]", "[0,4]"), 4, "whole number"));
  CHECK(refused(one("[1.0]", "[0,4]"), 4, "expected ']'"));
  CHECK(refused(one("[01]", "[0,4]"), 4, "starts with 0"));
  CHECK(refused(one("[1]", "[0,4,8]"), 4, "more than 2"));
  CHECK(refused(one("[1]", "[0]"), 4, "expected two"));
  CHECK(refused(one("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4,
                "more than 32"));
  CHECK(refused(
      R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
      6, "overlaps"));
  CHECK(refused(
      R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
      6, "hole"));
}

TEST(bad_grammar_is_refused) {
  const std::string t = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  CHECK(refused(" {}", 0, "no '{'"));
  CHECK(refused("[]", 0, "no '{'"));
  CHECK(refused("{}{}", 0, "after the closing"));
  CHECK(refused("{\"a\":" + t + ",}", 1, "expected '\"'"));
  CHECK(refused("{\"a\":" + t + ",\"a\":" + t + "}", 1, "appears twice"));
  CHECK(refused(R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", 1, "appears twice"));
  CHECK(refused(R"({"a":{"dtype":"U8","shape":[1]}})", 1, "'data_offsets' is missing"));
  CHECK(refused(R"({"a":{"dtype":"Q8","shape":[1],"data_offsets":[0,1]}})", 1, "'Q8' is not known"));
  CHECK(refused(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":{}}})", 1, "unknown field 'x'"));
  CHECK(refused(R"({"a":7})", 0, "expected '{'"));
  CHECK(refused(R"({"__metadata__":{"a":1}})", 0, "is not a text"));
  CHECK(refused(R"({"__metadata__":{"a":"b","a":"c"}})", 0, "appears twice"));
  CHECK(refused(R"({"__metadata__":{},"__metadata__":{}})", 0, "appears twice"));
  CHECK(refused("{\"a\n\":" + t + "}", 1, "control character"));
  CHECK(refused("{\"\\x\":" + t + "}", 1, "unknown escape"));
  CHECK(refused("{\"\\ud800\":" + t + "}", 1, "lone surrogate"));
  CHECK(refused("{\"\\udc00\":" + t + "}", 1, "lone surrogate"));
  CHECK(refused("{\"\\ud800\\u0041\":" + t + "}", 1, "lone surrogate"));
  CHECK(refused("{\"\\u00g0\":" + t + "}", 1, "hexadecimal"));
  for (const char* bytes : {"\xff", "\xc0\xaf", "\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                            "\xf5\x80\x80\x80", "\xc3"})
    CHECK(refused(std::string("{\"") + bytes + "\":" + t + "}", 1, "invalid UTF-8"));
  std::string deep;
  for (int i = 0; i < 100000; ++i) deep += "{\"a\":";
  CHECK_THROWS(parse(deep, 0), ErrorCode::format);
}

// A small fuzz: mutated good files either parse or give a format error; memory is watched by the sanitizers.
TEST(mutations_never_crash) {
  const std::string good = file_bytes(kGood, 26);
  const Philox random(7, 0);
  int parsed = 0;
  for (std::uint64_t i = 0; i < 20000; ++i) {
    std::string bytes = good;
    const auto words = random.words(i);
    for (std::uint32_t j = 0; j < 1 + words[0] % 3; ++j) {
      const auto where = random.words(i * 8 + j + 1'000'000);
      bytes[where[0] % bytes.size()] =
          static_cast<char>(where[2] % 2 ? where[1] : good[where[1] % good.size()]);
    }
    try {
      const auto header = parse(bytes);
      ++parsed;
      for (const auto& tensor : header.tensors)
        CHECK(tensor.begin <= tensor.end && tensor.end <= bytes.size());
    } catch (const Error& error) {
      CHECK(error.code() == ErrorCode::format);
    }
  }
  CHECK(parsed > 0);
}

TEST(files_are_mapped_and_converted) {
  std::string header =
      R"({"f":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"h":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},)"
      R"("b":{"dtype":"BF16","shape":[1],"data_offsets":[14,16]},"d":{"dtype":"F64","shape":[1],"data_offsets":[16,24]},)"
      R"("i":{"dtype":"I32","shape":[1],"data_offsets":[24,28]}})";
  if (header.size() % 2 == 0) header += ' ';  // data at an odd address: nothing is aligned
  std::string bytes = file_bytes(header, 28);
  char* data = bytes.data() + 8 + header.size();
  const float f[2] = {1.5f, -2.25f};
  const std::uint16_t h[3] = {0x3c00, 0x0001, 0xfc00}, b[1] = {0xc010};
  const double d[1] = {0.1};
  std::memcpy(data, f, 8);
  std::memcpy(data + 8, h, 6);
  std::memcpy(data + 14, b, 2);
  std::memcpy(data + 16, d, 8);
  const TemporaryFile temporary(bytes);
  const SafetensorsFile file(temporary.path);
  float out[3];
  file.read_f32(file.at("f", {2}), out);
  CHECK(out[0] == 1.5f && out[1] == -2.25f);
  CHECK(!file.aligned(file.at("f")));
  file.read_f32(file.at("h"), out);
  CHECK(out[0] == 1.0f && out[1] == 0x1.0p-24f && std::isinf(out[2]) && out[2] < 0);
  file.read_f32(file.at("h"), out, 1, 1);
  CHECK(out[0] == 0x1.0p-24f);
  file.read_f32(file.at("b"), out);
  CHECK(out[0] == -2.25f);
  file.read_f32(file.at("d"), out);
  CHECK(out[0] == 0.1f);
  CHECK_THROWS(file.read_f32(file.at("i"), out), ErrorCode::format);
  CHECK_THROWS(file.read_f32(file.at("h"), out, 2, 2), ErrorCode::invalid_argument);
  CHECK_THROWS(file.at("nothing"), ErrorCode::not_found);
  CHECK_THROWS(file.at("f", {3}), ErrorCode::format);
  // Copy-on-write: a stray write stays in this mapping.
  MappedFile again(temporary.path);
  const std::uint8_t before = again.data()[again.size() - 1];
  again.data()[again.size() - 1] = static_cast<std::uint8_t>(before + 1);
  const MappedFile third(temporary.path);
  CHECK_EQ(third.data()[third.size() - 1], before);
}

TEST(files_that_cannot_be_mapped) {
  CHECK_THROWS(SafetensorsFile("/no/such/file"), ErrorCode::not_found);
  CHECK_THROWS(SafetensorsFile(TemporaryFolder().path), ErrorCode::format);
  CHECK_THROWS(SafetensorsFile("/dev/null"), ErrorCode::format);
  const TemporaryFile empty("");
  CHECK_EQ(MappedFile(empty.path).size(), 0u);
  CHECK_THROWS(SafetensorsFile(empty.path), ErrorCode::format);
}

TEST(half_floats) {
  // Every f16 against its definition.
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float found = f16_to_f32(static_cast<std::uint16_t>(bits));
    if (exponent == 31) {
      CHECK(mantissa ? std::isnan(found) : std::isinf(found));
    } else {
      const double size = exponent ? std::ldexp(1024 + mantissa, exponent - 25) : std::ldexp(mantissa, -24);
      CHECK(found == static_cast<float>(bits & 0x8000 ? -size : size));
    }
    CHECK(std::signbit(found) == ((bits & 0x8000) != 0));
    // bf16: a round trip keeps every value.
    const float wide = bf16_to_f32(static_cast<std::uint16_t>(bits));
    if (!std::isnan(wide)) CHECK_EQ(f32_to_bf16(wide), bits);
  }
  CHECK_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808000u)), 0x3f80u);  // a tie goes to even
  CHECK_EQ(f32_to_bf16(std::bit_cast<float>(0x3f818000u)), 0x3f82u);
  CHECK_EQ(f32_to_bf16(std::bit_cast<float>(0x3f808001u)), 0x3f81u);
  CHECK(std::isnan(bf16_to_f32(f32_to_bf16(std::bit_cast<float>(0x7f800001u)))));
}
