// Stop strings against a search of the whole text.
#include "generate/stop_strings.h"

#include <algorithm>
#include <random>

#include "base/testing.h"

namespace mllm {
namespace {

TEST(the_first_match_counts_and_the_rest_is_dropped) {
  StopStrings stops({"def", "bcd"});
  CHECK_EQ(stops.push("a", true), std::string("a"));
  CHECK_EQ(stops.push("bc", true), std::string(""));
  CHECK_EQ(stops.push("def", true), std::string(""));
  CHECK_EQ(stops.found().value_or(9), size_t{1});
  CHECK_EQ(stops.push("more", true) + stops.flush(), std::string(""));
}

TEST(what_was_held_back_comes_with_the_flush) {
  StopStrings stops({"abc"});
  CHECK_EQ(stops.push("xab", true), std::string("x"));
  CHECK_EQ(stops.flush(), std::string("ab"));
  CHECK(!stops.found());
}

TEST(a_match_that_may_not_stop_does_not_count) {
  StopStrings stops({"ab"});
  CHECK_EQ(stops.push("ab", false), std::string("ab"));
  CHECK_EQ(stops.push("cab", true), std::string("c"));
  CHECK(stops.found().has_value());
}

// Random texts over few letters, in random pieces: the same as cutting the text at the first match that ends
// in the piece that makes it complete.
TEST(pieces_do_not_matter) {
  std::mt19937 random(1);
  const auto word = [&](size_t most) {
    std::string out(1 + random() % most, 'a');
    for (char& c : out) c = static_cast<char>('a' + random() % 2);
    return out;
  };
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::string> list;
    for (size_t n = random() % 4; n > 0; --n) list.push_back(word(4));
    StopStrings stops(list);
    std::string all, out;
    for (int piece = 0; piece < 8 && !stops.found(); ++piece) {
      const std::string text = word(3);
      all += text;
      const std::string released = stops.push(text, true);
      out += released;
      // Nothing certain is held back: what is held is a beginning of a stop string.
      const std::string held = all.substr(out.size());
      CHECK(stops.found() || held.empty() || std::ranges::any_of(list, [&](const std::string& s) {
              return s.starts_with(held) && s != held;
            }));
      size_t first = std::string::npos;
      for (const std::string& stop : list) first = std::min(first, all.find(stop));
      CHECK_EQ(stops.found().has_value(), first != std::string::npos);
      if (!stops.found()) continue;
      CHECK_EQ(out, all.substr(0, first));
      CHECK(all.substr(first).starts_with(list[*stops.found()]));
    }
    if (!stops.found()) CHECK_EQ(out + stops.flush(), all);
  }
}

}  // namespace
}  // namespace mllm

TEST_MAIN()
