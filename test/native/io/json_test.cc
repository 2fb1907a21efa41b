#include "native/io/json.h"

#include <string>

#include "test/native/check.h"

using namespace personascope;

namespace {

JsonValue parse(const std::string& text) {
  return parse_json(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), "cfg.json");
}

// The text of the refusal; empty where nothing was refused.
std::string refusal(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& error) {
    return error.code() == ErrorCode::format ? error.what() : "another code";
  }
  return "";
}

}  // namespace

TEST(every_kind_of_value) {
  const JsonValue value = parse(
      " {\"a\": [1, -2.5e-3, 0, -0.0, 1E+2], \"b\": {\"c\": null, \"d\": true, \"e\": false}, "
      "\"t\": \"\\u00e9\\ud83d\\ude00\\n\\\\/\xc3\xa9\", \"n\": [], \"o\": {}} \n");
  const JsonValue& a = *value.find("a");
  CHECK_EQ(a.items.size(), 5u);
  CHECK_EQ(a.items[1].number, -2.5e-3);
  CHECK_EQ(a.items[4].number, 100.0);
  CHECK(value.find("b")->find("c")->is(JsonValue::Kind::null));
  CHECK(value.find("b")->find("d")->boolean && !value.find("b")->find("e")->boolean);
  CHECK(value.find("t")->text == "\xc3\xa9\xf0\x9f\x98\x80\n\\/\xc3\xa9");
  CHECK(value.find("n")->is(JsonValue::Kind::array) && value.find("o")->is(JsonValue::Kind::object));
  CHECK(value.find("missing") == nullptr && a.find("x") == nullptr);
}

TEST(what_json_does_not_have_is_refused) {
  for (const char* text : {"",
                           "{",
                           "[1,]",
                           "{\"a\":1,}",
                           "{a:1}",
                           "01",
                           "1.",
                           ".5",
                           "+1",
                           "1e",
                           "-",
                           "NaN",
                           "Infinity",
                           "nul",
                           "1e999",
                           "\"\x01\"",
                           "\"\\x\"",
                           "\"\\ud800\"",
                           "\"\xff\"",
                           "\"\xc0\x80\"",
                           "\"abc",
                           "1 2",
                           "{\"a\":1,\"a\":2}",
                           "[1 2]",
                           "{\"a\" 1}",
                           "'a'"})
    CHECK(!refusal(text).empty() && refusal(text) != "another code");
  CHECK(refusal("{\"a\": 1,\n \"a\": 2}").find("cfg.json: JSON: member 'a' appears twice (byte") == 0);
}

TEST(depth_is_bounded) {
  const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  CHECK(refusal(nested(64)).empty());
  CHECK(!refusal(nested(65)).empty());
  CHECK(!refusal(std::string(1000000, '[')).empty());
}

TEST(cursor_reads_whole_numbers) {
  const auto whole = [](const std::string& text) {
    return JsonCursor(reinterpret_cast<const std::uint8_t*>(text.data()), text.size(), "x")
        .read_whole("number");
  };
  CHECK_EQ(whole(" 18446744073709551615"), 18446744073709551615ull);
  CHECK_THROWS(whole("18446744073709551616"), ErrorCode::format);
  CHECK_THROWS(whole("00"), ErrorCode::format);
  CHECK_THROWS(whole("-1"), ErrorCode::format);
}
