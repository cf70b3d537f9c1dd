// Regular expressions and Unicode: what matches, what is refused, and how long it may take.
#include "text/regex.h"

#include <chrono>
#include <string>
#include <vector>

#include "base/testing.h"
#include "text/pre_tokenizer.h"

namespace mllm::text {
namespace {

// The matches with what lies between them, "|" around matches.
std::string cut(const std::string& pattern, const std::string& text) {
  const Regex regex(pattern, "");
  Regex::Search search(regex, text);
  std::string out;
  size_t done = 0;
  for (Regex::Match match{}; search.next(match); done = match.end) {
    out += text.substr(done, match.begin - done);
    out += "|" + text.substr(match.begin, match.end - match.begin) + "|";
  }
  return out + text.substr(done);
}

TEST(the_first_alternative_that_matches_wins) {
  CHECK_EQ(cut("ab|abc", "xabc"), std::string("x|ab|c"));
  CHECK_EQ(cut("(?:ab|a)b", "ab abb"), std::string("|ab| |abb|"));
  CHECK_EQ(cut("a*b|a", "aaab aa"), std::string("|aaab| |a||a|"));
  CHECK_EQ(cut("a?", "bab"), std::string("b|a|b"));
}

TEST(repetitions) {
  CHECK_EQ(cut("a{2,3}", "aaaaaaa"), std::string("|aaa||aaa|a"));
  CHECK_EQ(cut("a{2}", "aaa"), std::string("|aa|a"));
  CHECK_EQ(cut("(?:ab){2,}", "ababab ab"), std::string("|ababab| ab"));
  CHECK_EQ(cut("a+?b|a+?", "aab aa"), std::string("|aab| |a||a|"));
  CHECK_EQ(cut("a++ab|b", "aaab"), std::string("aaa|b|"));
  CHECK_EQ(cut("a?+ab|c", "ab aab c"), std::string("ab |aab| |c|"));
  CHECK_EQ(cut("(a*)*b", "aab"), std::string("|aab|"));
}

TEST(classes) {
  CHECK_EQ(cut("[a-c\\d-]+", "ab-3xé"), std::string("|ab-3|xé"));
  CHECK_EQ(cut("[^\\s\\p{L}]+", "a1,é 2"), std::string("a|1,|é |2|"));
  CHECK_EQ(cut("[]a]+", "]a["), std::string("|]a|["));
  CHECK_EQ(cut("\\P{L}", "aß1"), std::string("aß|1|"));
  CHECK_EQ(cut("\\p{^L}", "aß1"), std::string("aß|1|"));
  CHECK_EQ(cut("[\\S]+", "a\u3000b\u00a0"), std::string("|a|\u3000|b|\u00a0"));
  CHECK_EQ(cut("\\x41\\x{1F600}\\u00e9", "A😀é"), std::string("|A😀é|"));
  CHECK_EQ(cut("[一-龥]+", "中文a"), std::string("|中文|a"));
  CHECK_EQ(cut(".", "\né"), std::string("\n|é|"));
}

TEST(assertions) {
  CHECK_EQ(cut("\\s+(?!\\S)|\\s+", "a   b "), std::string("a|  || |b| |"));
  CHECK_EQ(cut("a(?=b)", "ab a"), std::string("|a|b a"));
  CHECK_EQ(cut("^a|b$", "ab\nab a"), std::string("|a||b|\n|a|b a"));
  CHECK_EQ(cut("\\Aa|a\\z", "aba\na"), std::string("|a|ba\n|a|"));
}

TEST(case_is_ignored_where_told_so) {
  CHECK_EQ(cut("(?i:'s|k)|a", "'S 's 'ſ K \u212a aA"), std::string("|'S| |'s| |'ſ| |K| |\u212a| |a|A"));
  CHECK_EQ(cut("(?i:[r-t])", "SſRq"), std::string("|S||ſ||R|q"));
}

TEST(what_is_not_covered_is_refused) {
  for (const char* pattern :
       {"(", ")", "a{2", "a{3,2}", "[a", "[z-a]", "*", "\\p{Han}", "(?<=a)", "\\q", "(?!ab)", "(?i:é)",
        "(?:ab)++", "\xff", "a****", "(((a{999}){999}){999})", "((){999}){999}"}) {
    CHECK_THROWS(Regex(pattern, ""), MLLM_ERROR_UNSUPPORTED);
  }
}

TEST(no_pattern_takes_long) {
  const auto begin = std::chrono::steady_clock::now();
  const std::string letters(200'000, 'a');
  const std::string blanks(200'000, ' ');
  for (const char* pattern : {"(a|a)*b", "(?:a|aa)+$", "(a*)*b", "a*a*a*b", "\\s+$", "\\s*\\s*x"}) {
    CHECK_EQ(cut(pattern, letters + "c").size() >= letters.size(), true);
    CHECK_EQ(cut(pattern, blanks + "c").size() >= blanks.size(), true);
  }
  // Seconds of a slow machine with sanitizers; what is exponential or quadratic takes minutes and more.
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(120));
}

TEST(a_search_goes_on_after_it_has_become_careful) {
  // Enough work without a match to change to the remembering matcher, and then matches that touch each other.
  const std::string text = std::string(20'000, 'a') + "ab|aabab";
  const std::string found = cut("(?:a|a)*b", text);
  CHECK_EQ(found, "|" + std::string(20'000, 'a') + "ab|" + "|" + "|aab||ab|");
}

TEST(families) {
  PreTokenizer llama3;
  llama3.add_split(Regex(kLlama3Pattern, ""), PreTokenizer::Keep::All);
  std::vector<std::string> words;
  llama3.split("It'S 1234  we\n\n x", [&](std::string_view word) { words.emplace_back(word); });
  CHECK(words == (std::vector<std::string>{"It", "'S", " ", "123", "4", " ", " we", "\n\n", " x"}));
}

TEST(composition) {
  CHECK_EQ(to_nfc("plain"), std::string("plain"));
  CHECK_EQ(to_nfc("e\u0301"), std::string("\u00e9"));
  CHECK_EQ(to_nfc("a\u0308\u0323"), std::string("\u1ea1\u0308"));
  CHECK_EQ(to_nfc("\u212b"), std::string("\u00c5"));
  CHECK_EQ(to_nfc("\u1112\u1161\u11ab"), std::string("\ud55c"));
  CHECK_EQ(to_nfc("\uac00\u11a8"), std::string("\uac01"));
  CHECK_EQ(to_nfc("\u0958"), std::string("\u0915\u093c"));  // excluded from composition
  CHECK_EQ(to_nfc("\u0301e"), std::string("\u0301e"));
  CHECK(category('a') == Category::Ll);
  CHECK(category(0x4e00) == Category::Lo);
  CHECK(category(0x10ffff) == Category::Cn);
  CHECK(is_space(0x3000) && is_space(0x85) && !is_space(0x200b));
  CHECK_EQ(categories_named("Lx"), 0u);
}

}  // namespace
}  // namespace mllm::text

TEST_MAIN()
