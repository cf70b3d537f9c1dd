#include "base/json.h"

#include "base/testing.h"

using mllm::Json;

namespace {

Json parse(std::string_view text) {
  return Json::parse(text, "file.json");
}

}  // namespace

TEST(reads_every_kind_of_value) {
  const Json j = parse(
      R"( {"a": [1, -2.5e3, true, false, null], "b": {"c": "x\u00e9\ud83d\ude00\n"}, "d": 9223372036854775807} )");
  CHECK_EQ(j.at("a").array()[0].integer(0, 10), 1);
  CHECK_EQ(j.at("a").array()[1].number(), -2500.0);
  CHECK(j.at("a").array()[2].boolean());
  CHECK(!j.at("a").array()[3].boolean());
  CHECK(j.at("a").array()[4].is_null());
  CHECK_EQ(j.at("b").at("c").string(), std::string("x\xc3\xa9\xf0\x9f\x98\x80\n"));
  CHECK_EQ(j.at("d").integer(0, INT64_MAX), INT64_MAX);
  CHECK(j.find("z") == nullptr);
}

TEST(refuses_what_is_not_json) {
  for (const char* text : {"",
                           "{",
                           "[1,]",
                           "{\"a\":1,}",
                           "01",
                           "1.",
                           "+1",
                           ".5",
                           "1e",
                           "nul",
                           "\"\x01\"",
                           "\"\\x\"",
                           "\"\\ud800\"",
                           "\"\\udc00\"",
                           "\"\xff\"",
                           "\"\xc0\x80\"",
                           "\"\xed\xa0\x80\"",
                           "{\"a\":1,\"a\":2}",
                           "1 2",
                           "{1:2}",
                           "[1 2]",
                           "\"abc",
                           "1e999",
                           "\"\\u12\"",
                           "{\"a\" 1}"}) {
    CHECK_THROWS(parse(text), MLLM_ERROR_FORMAT);
  }
}

TEST(bounds_nesting) {
  CHECK_THROWS(parse(std::string(100000, '[')), MLLM_ERROR_FORMAT);
  CHECK_THROWS(parse(std::string(100, '[') + std::string(100, ']')), MLLM_ERROR_FORMAT);
  parse(std::string(60, '[') + std::string(60, ']'));
}

TEST(errors_name_the_field) {
  const Json j = parse(R"({"model": {"layers": [1, "two"]}})");
  const auto message = [&](auto&& f) {
    try {
      f();
    } catch (const mllm::Error& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK_EQ(message([&] { j.at("model").at("layers").array()[1].integer(0, 9); }),
           std::string("file.json: field model.layers[1]: expected an integer"));
  CHECK_EQ(message([&] { j.at("model").at("heads"); }), std::string("file.json: field model.heads: missing"));
  CHECK_EQ(message([&] { j.at("model").at("layers").array()[0].integer(2, 9); }),
           std::string("file.json: field model.layers[0]: must be 2 to 9, got 1"));
}

TEST_MAIN()
