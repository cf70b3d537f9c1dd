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

TEST(a_reader_walks_through_a_document) {
  const std::string file = "file.json";
  const std::string text =
      R"( {"a": {"x": 1, "y\u0041": -2}, "skip": [{"b": [[]]}, 1.5e3], "list": ["p", ["q"]]} )";
  mllm::JsonReader reader(text, file);
  std::string seen;
  mllm::JsonReader list = reader;
  reader.object([&](const std::string& key) {
    seen += key + ";";
    if (key == "a") {
      reader.object([&](const std::string& name) { seen += name + std::to_string(reader.integer(-2, 1)); });
    } else {
      if (key == "list") list = reader;
      reader.skip();
    }
  });
  reader.end();
  list.array([&] { seen += list.next_kind() == '"' ? list.string() : list.value("v").array()[0].string(); });
  CHECK_EQ(seen, std::string("a;x1yA-2skip;list;pq"));
}

TEST(a_reader_refuses_what_it_is_not_asked_for) {
  const std::string file = "file.json";
  const auto reads = [&](std::string_view text, auto&& read) {
    mllm::JsonReader reader(text, file);
    read(reader);
    reader.end();
    return 0;
  };
  CHECK_THROWS(reads("1", [](auto& r) { r.string(); }), MLLM_ERROR_FORMAT);
  CHECK_THROWS(reads("\"x\"", [](auto& r) { r.integer(0, 9); }), MLLM_ERROR_FORMAT);
  CHECK_THROWS(reads("10", [](auto& r) { r.integer(0, 9); }), MLLM_ERROR_FORMAT);
  CHECK_THROWS(reads("1.0", [](auto& r) { r.integer(0, 9); }), MLLM_ERROR_FORMAT);
  CHECK_THROWS(reads("[1 2]", [](auto& r) { r.array([&] { r.skip(); }); }), MLLM_ERROR_FORMAT);
  CHECK_THROWS(reads("{\"a\" 1}", [](auto& r) { r.object([&](const std::string&) { r.skip(); }); }),
               MLLM_ERROR_FORMAT);
  CHECK_THROWS(reads("{", [](auto& r) { r.object([&](const std::string&) { r.skip(); }); }),
               MLLM_ERROR_FORMAT);
  CHECK_THROWS(reads("[] []", [](auto& r) { r.array([&] { r.skip(); }); }), MLLM_ERROR_FORMAT);
}

TEST(many_keys_take_no_quadratic_time) {
  std::string text = "{";
  for (int i = 0; i < 100'000; ++i) text += "\"" + std::to_string(i) + "\":1,";
  text += "\"7\":1}";
  CHECK_THROWS(parse(text), MLLM_ERROR_FORMAT);
}

TEST_MAIN()
