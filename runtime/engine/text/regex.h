// Regular expressions over UTF-8, as pre-tokenizers use them (Oniguruma's syntax, of which a part): classes
// with Unicode categories, groups, alternatives, repetition, (?i:…), one-character lookahead, ^ $ \A \z. The
// first alternative that leads to a match wins. Searching a text takes time proportional to its length times
// the pattern's, whatever the two are.
#ifndef MINDIR_LLM_TEXT_REGEX_H_
#define MINDIR_LLM_TEXT_REGEX_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/unicode.h"
#include "text/utf8.h"

namespace mllm::text {

// A set of characters.
struct CharSet {
  Categories categories = 0;
  bool spaces = false;      // all White_Space
  bool non_spaces = false;  // everything else
  std::vector<std::pair<uint32_t, uint32_t>> ranges;
  bool negated = false;
  std::array<uint64_t, 2> ascii{};  // the result for ASCII, once finish() has run

  void finish();
  bool contains(uint32_t code) const {
    return code < 128 ? (ascii[code / 64] >> (code % 64) & 1) != 0 : compute(code);
  }

 private:
  bool compute(uint32_t code) const;
};

class Regex {
 public:
  // Throws UNSUPPORTED beginning with `where` and naming the place, for syntax that is not covered.
  Regex(std::string_view pattern, const std::string& where);

  struct Match {
    size_t begin, end;
  };

  // Walks through one text, which must be valid UTF-8 and outlive it.
  class Search {
   public:
    Search(const Regex& regex, std::string_view text)
        : regex_(regex), text_(text), budget_(40 * text.size() + 4096) {}
    // The next match that is not empty, behind the last one; false at the end.
    bool next(Match& match);

   private:
    static constexpr size_t kNone = static_cast<size_t>(-1);
    // What is tried when the present attempt fails: `pc` at `at`, and at every earlier character down to
    // `low`.
    struct Choice {
      uint32_t pc;
      size_t at, low;
    };
    size_t match_at(size_t at);
    size_t match_fast(size_t at);         // fails with over_budget_ when it has taken too much work
    size_t match_remembering(size_t at);  // each state at each place at most once
    bool at(size_t place, uint32_t set, size_t& next) const;

    const Regex& regex_;
    std::string_view text_;
    size_t place_ = 0;
    std::vector<Choice> choices_;
    size_t budget_;
    bool over_budget_ = false;
    std::vector<uint64_t> failed_;  // a bit for each place and instruction
  };

 private:
  friend class RegexCompiler;
  enum class Op : uint8_t { Set, Run, Split, Jump, Look, LineBegin, LineEnd, TextBegin, TextEnd, Match };
  struct Instruction {
    Op op;
    uint32_t a = 0;                // Set, Run, Look: the set; Split: tried first; Jump: where to
    uint32_t b = 0;                // Split: tried second; Look: 1 when the set must not follow
    uint32_t least = 0, most = 0;  // Run
    enum Mode : uint8_t { Greedy, Lazy, Possessive } mode = Greedy;
  };
  static constexpr uint32_t kUnlimited = 0xffffffff;
  bool holds(const Instruction& i, std::string_view text, size_t at) const;

  std::vector<CharSet> sets_;
  std::vector<Instruction> fast_;    // with Run
  std::vector<Instruction> simple_;  // without it
};

}  // namespace mllm::text

#endif  // MINDIR_LLM_TEXT_REGEX_H_
