#include "grammar/gbnf.h"

#include <string>
#include <string_view>

#include "base/testing.h"
#include "grammar/program.h"
#include "grammar/states.h"
#include "text/utf8.h"

using namespace mllm::grammar;

namespace {

// Follows texts byte by byte, without a vocabulary.
class Follower {
 public:
  explicit Follower(std::string_view gbnf) : program_(compile(parse_gbnf(gbnf))), states_(program_) {}

  bool matches(std::string_view text) {
    const State end = follow(text);
    return end != kDead && states_.accepts(end);
  }
  bool may_begin(std::string_view text) { return follow(text) != kDead; }

 private:
  State follow(std::string_view text) {
    State state = states_.start();
    for (const char c : text) {
      if (state == kDead) break;
      state = states_.step(state, program_.class_of[static_cast<unsigned char>(c)]);
    }
    return state;
  }

  Program program_;
  States states_;
};

bool matches(std::string_view gbnf, std::string_view text) {
  return Follower(gbnf).matches(text);
}

std::string complaint(std::string_view gbnf) {
  try {
    compile(parse_gbnf(gbnf));
  } catch (const mllm::Error& e) {
    return e.status() == MLLM_ERROR_INVALID_ARGUMENT ? e.what() : "another status";
  }
  return "";
}

std::string repeated(std::string_view part, size_t times) {
  std::string out;
  for (size_t i = 0; i < times; ++i) out += part;
  return out;
}

}  // namespace

TEST(literals_and_classes) {
  CHECK(matches("root ::= \"abc\"", "abc"));
  CHECK(!matches("root ::= \"abc\"", "ab"));
  CHECK(!matches("root ::= \"abc\"", "abcd"));
  CHECK(matches("root ::= \"\"", ""));
  CHECK(matches("root ::= \"\\x41\\u00e9\\U0001F600\\n\\t\\r\\\\\\\"\"",
                "A\xc3\xa9\xf0\x9f\x98\x80\n\t\r\\\""));
  CHECK(matches("root ::= [a-cx\\]^-]", "b"));
  for (const char* c : {"x", "]", "^", "-"}) CHECK(matches("root ::= [a-cx\\]^-]", c));
  CHECK(!matches("root ::= [a-cx]", "d"));
  CHECK(matches("root ::= [^a-c]", "\xe2\x82\xac"));
  CHECK(!matches("root ::= [^a-c]", "b"));
  CHECK(matches("root ::= .", "\n"));
  CHECK(!matches("root ::= .", ""));
  CHECK(!matches("root ::= .", "ab"));
}

TEST(operators) {
  CHECK(matches("root ::= \"a\"? \"b\"* \"c\"+", "c"));
  CHECK(matches("root ::= \"a\"? \"b\"* \"c\"+", "abbbcc"));
  CHECK(!matches("root ::= \"a\"? \"b\"* \"c\"+", "ab"));
  CHECK(!matches("root ::= \"a\"{2,3}", "a"));
  CHECK(matches("root ::= \"a\"{2,3}", "aa"));
  CHECK(matches("root ::= \"a\"{ 2 , 3 }", "aaa"));
  CHECK(!matches("root ::= \"a\"{2,3}", "aaaa"));
  CHECK(matches("root ::= (\"a\" | \"b\"){2,}", "abba"));
  CHECK(matches("root ::= \"a\"{0}", ""));
  CHECK(matches("root ::= \"a\"{,2}", "a"));
  CHECK(matches("root ::= [a-z]{3} [0-9]{0,2}", "abc1"));
  CHECK(matches("root ::= (\"ab\"?)*", "abab"));
  CHECK(!matches("root ::= (\"ab\"?)*", "aabab"));
}

TEST(rules_lines_and_comments) {
  const char* text =
      "# a grammar\n"
      "root ::= # begins here\n"
      "  item (\n"
      "    \",\"  # between\n"
      "    item\n"
      "  )*\n"
      "\n"
      "item ::= \"x\" |\n"
      "  \"y\"\n"
      "  | rest-2\n"
      "rest-2 ::= \"z\"\r\n";
  CHECK(matches(text, "x"));
  CHECK(matches(text, "x,y,z"));
  CHECK(!matches(text, "x,"));
}

TEST(recursion) {
  const char* text = "root ::= \"(\" root \")\" | \"\"";
  CHECK(matches(text, "((()))"));
  CHECK(!matches(text, "(()"));
  CHECK(matches(text, repeated("(", 20000) + repeated(")", 20000)));
  // Rules that end in one another need no stack.
  CHECK(matches("root ::= \"a\" root | \"b\"", repeated("a", 100000) + "b"));
  // Common beginnings of alternatives are one.
  const char* pairs = "root ::= \"a\" root \"b\" | \"a\" root \"c\" | \"d\"";
  CHECK(matches(pairs, repeated("a", 60) + "d" + repeated("bc", 30)));
}

TEST(characters_in_parts) {
  Follower f("root ::= [\\u0080-\\U0010ffff]+");
  CHECK(f.may_begin("\xf0\x9f\x98"));
  CHECK(!f.matches("\xf0\x9f\x98"));
  CHECK(f.matches("\xf0\x9f\x98\x80"));
  CHECK(!f.may_begin("\xc0"));
  CHECK(!f.may_begin("\xed\xa0"));  // a surrogate
  CHECK(!f.may_begin("\xf4\x90"));
  CHECK(!f.may_begin("\xf5"));
  CHECK(!f.may_begin("a"));
}

TEST(every_character_of_a_range_and_no_other) {
  Follower f("root ::= [\\u0393-\\u1234] | [\\uff00-\\U00012345] | \"~\"");
  for (uint32_t code = 1; code < 0x12400; code += 7) {
    if (code >= 0xd800 && code < 0xe000) continue;
    std::string text;
    mllm::text::append_utf8(text, code);
    const bool inside =
        (code >= 0x393 && code <= 0x1234) || (code >= 0xff00 && code <= 0x12345) || code == '~';
    if (f.matches(text) != inside) CHECK_EQ(code, 0u);
  }
}

TEST(errors_name_the_place) {
  CHECK_EQ(complaint("root ::= \"a"), "grammar: line 1, column 10: this \" is not closed");
  CHECK_EQ(complaint("root ::= [a"), "grammar: line 1, column 10: this [ is not closed");
  CHECK_EQ(complaint("root ::= \"\xc3\xa9\" )"), "grammar: line 1, column 14: there is no ( for this )");
  CHECK_EQ(complaint("root ::= a\n"), "grammar: line 1, column 10: the rule \"a\" is not defined");
  CHECK_EQ(complaint("x ::= \"a\""),
           "grammar: line 1, column 1: there is no rule \"root\", where a text begins");
  CHECK_EQ(complaint(""), "grammar: line 1, column 1: there is no rule \"root\", where a text begins");
  CHECK_EQ(complaint("root ::= \"a\"\nroot ::= \"b\""),
           "grammar: line 2, column 1: the rule \"root\" is defined twice");
  CHECK_EQ(complaint("root = \"a\""), "grammar: line 1, column 6: expected ::= after the rule's name");
  CHECK_EQ(complaint("root ::= *"), "grammar: line 1, column 10: there is nothing before * to repeat");
  CHECK_EQ(complaint("root ::= \"a\"{3,2}"), "grammar: line 1, column 13: {m,n} with n below m");
  CHECK_EQ(complaint("root ::= \"a\"{9999999}"),
           "grammar: line 1, column 14: a repetition may count to 1000000 at most");
  CHECK_EQ(complaint("root ::= [b-a]"), "grammar: line 1, column 11: a range that ends before it begins");
  CHECK_EQ(complaint("root ::= \"\\ud800\""), "grammar: line 1, column 11: this escape is no character");
  CHECK_EQ(complaint("root ::= \"\\xZ\""),
           "grammar: line 1, column 11: this escape needs 2 hexadecimal digits");
  CHECK_EQ(complaint("root ::= \"\xff\""), "grammar: line 1, column 11: bytes that are no UTF-8");
  CHECK_EQ(complaint("root ::= ."), "");
}

TEST(left_recursion_is_refused) {
  for (const char* text : {"root ::= root \"a\" | \"b\"", "root ::= a\na ::= b \"x\" | \"y\"\nb ::= \"z\"? a",
                           "root ::= (\"x\"? root)? \"a\"", "root ::= (root | \"a\")*"}) {
    const std::string found = complaint(text);
    CHECK(found.find("left recursive") != std::string::npos);
    CHECK(found.find("the rule \"") == 0);
  }
  CHECK_EQ(complaint("root ::= \"a\" root | \"b\""), "");
}

TEST(what_matches_nothing_is_refused) {
  CHECK_EQ(complaint("root ::= \"a\" root"), "the grammar matches no text at all");
  CHECK_EQ(complaint("root ::= []"), "the grammar matches no text at all");
  // A part that leads nowhere is left out, so that no text comes to a dead end.
  Follower f("root ::= \"a\" | \"b\" endless\nendless ::= \"c\" endless");
  CHECK(f.matches("a"));
  CHECK(!f.may_begin("b"));
}

TEST(large_and_hostile_grammars) {
  const auto too_large = [](const std::string& text) {
    return complaint(text).find("too large") != std::string::npos;
  };
  CHECK(too_large("root ::= (\"a\" | \"ab\"){1000000}"));
  CHECK_EQ(complaint("root ::= ((((\"ab\"{99}){99}){99}){99}){99}"), "");
  CHECK(too_large("root ::= [ab]* \"a\" [ab]{30} \"c\""));
  // Rules that double each other.
  std::string doubling = "root ::= r0\n";
  for (int i = 0; i < 100; ++i)
    doubling +=
        "r" + std::to_string(i) + " ::= r" + std::to_string(i + 1) + " r" + std::to_string(i + 1) + "\n";
  CHECK_EQ(complaint(doubling + "r100 ::= \"a\""), "");
  // A chain of rules, and parentheses, that are deep.
  std::string chain = "root ::= r0\n";
  for (int i = 0; i < 20000; ++i)
    chain += "r" + std::to_string(i) + " ::= \"(\" r" + std::to_string(i + 1) + "\n";
  CHECK_EQ(complaint(chain + "r20000 ::= \"a\""), "");
  CHECK(
      complaint("root ::= " + repeated("(", 1000) + "\"a\"" + repeated(")", 1000)).find("nested more than") !=
      std::string::npos);
  CHECK(complaint("root ::= \"a\"" + repeated("?", 100000)).find("too many repetitions") !=
        std::string::npos);
  CHECK(complaint(repeated("a", 5 << 20)).find("at most 4194304 are allowed") != std::string::npos);
  // Counted rounds are not written out.
  Follower counted("root ::= [a-z]{1000000}");
  CHECK(counted.may_begin(repeated("x", 1000)));
  CHECK(!counted.matches(repeated("x", 1000)));
  // A text with very many readings is an error, not a machine without memory.
  Follower ambiguous(
      "root ::= a*\na ::= \"x\" a \"y\" | \"x\" b \"z\" | \"w\"\nb ::= \"x\" b \"z\" | \"x\" a \"y\" | "
      "\"w\"");
  bool is_refused = false;
  try {
    (void)ambiguous.may_begin(repeated("x", 100));
  } catch (const mllm::Error& e) {
    is_refused = std::string(e.what()).find("too ambiguous") != std::string::npos;
  }
  CHECK(is_refused);
}

TEST_MAIN()
