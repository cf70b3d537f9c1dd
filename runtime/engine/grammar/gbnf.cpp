#include "grammar/gbnf.h"

#include <algorithm>
#include <string>
#include <unordered_map>

#include "base/error.h"
#include "text/utf8.h"

namespace mllm::grammar {
namespace {

constexpr size_t kMostBytes = 4 << 20;
constexpr int kMostDepth = 200;
constexpr int kMostRepetitions = 8;
constexpr uint32_t kMostRepeats = 1'000'000;

bool is_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

class GbnfParser {
 public:
  explicit GbnfParser(std::string_view text) : text_(text) {
    if (text.size() > kMostBytes) {
      fail_argument("the grammar has " + std::to_string(text.size()) + " bytes, at most " +
                    std::to_string(kMostBytes) + " are allowed");
    }
  }

  Grammar parse() {
    blank(true);
    while (at_ < text_.size()) rule();
    const Use* missing = nullptr;
    for (const auto& [name, use] : uses_) {
      if (!grammar_.rules()[use.number].defined && (!missing || use.at < missing->at)) missing = &use;
    }
    if (missing) {
      fail(missing->at, "the rule \"" + grammar_.rules()[missing->number].name + "\" is not defined");
    }
    const auto root = uses_.find("root");
    if (root == uses_.end()) fail(0, "there is no rule \"root\", where a text begins");
    grammar_.root = root->second.number;
    return std::move(grammar_);
  }

 private:
  struct Use {
    uint32_t number;
    size_t at;  // where it was named first
  };

  [[noreturn]] void fail(size_t at, const std::string& why) const {
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < at && i < text_.size(); ++i) {
      if (text_[i] == '\n') {
        ++line;
        column = 1;
      } else if ((static_cast<unsigned char>(text_[i]) & 0xc0) != 0x80) {
        ++column;
      }
    }
    fail_argument("grammar: line " + std::to_string(line) + ", column " + std::to_string(column) + ": " +
                  why);
  }

  bool ahead(std::string_view word) const { return text_.substr(at_, word.size()) == word; }
  bool take(std::string_view word) {
    if (!ahead(word)) return false;
    at_ += word.size();
    return true;
  }
  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  // Skips blanks and comments, and line ends where they mean nothing.
  void blank(bool over_lines) {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '\r') ++at_;
      } else if (c == ' ' || c == '\t' || (over_lines && (c == '\n' || c == '\r'))) {
        ++at_;
      } else {
        return;
      }
    }
  }

  std::string name() {
    const size_t begin = at_;
    while (at_ < text_.size() && is_name(text_[at_])) ++at_;
    if (at_ == begin) fail(at_, "expected the name of a rule");
    return std::string(text_.substr(begin, at_ - begin));
  }

  uint32_t number_of(const std::string& name, size_t at) {
    const auto found = uses_.find(name);
    if (found != uses_.end()) return found->second.number;
    const uint32_t number = grammar_.add_rule(name);
    uses_.emplace(name, Use{number, at});
    return number;
  }

  // name ::= alternatives
  void rule() {
    const size_t begin = at_;
    const std::string name = this->name();
    blank(false);
    if (!take("::=")) fail(at_, "expected ::= after the rule's name");
    blank(true);
    const uint32_t number = number_of(name, begin);
    if (grammar_.rules()[number].defined) fail(begin, "the rule \"" + name + "\" is defined twice");
    grammar_.define(number, alternatives(0, false));
    if (at_ < text_.size() && text_[at_] != '\n' && text_[at_] != '\r') {
      fail(at_, text_[at_] == ')' ? "there is no ( for this )" : "unexpected character");
    }
    blank(true);
  }

  Expression alternatives(int depth, bool over_lines) {
    if (depth > kMostDepth) fail(at_, "nested more than " + std::to_string(kMostDepth) + " deep");
    std::vector<Expression> choices = {sequence(depth, over_lines)};
    while (true) {
      // A line may also begin with the bar.
      const size_t before = at_;
      blank(true);
      if (!take("|")) {
        if (!over_lines) at_ = before;
        break;
      }
      blank(true);
      choices.push_back(sequence(depth, over_lines));
    }
    return grammar_.choice(choices);
  }

  Expression sequence(int depth, bool over_lines) {
    std::vector<Expression> parts;
    int repetitions = 0;  // of the last part
    while (at_ < text_.size()) {
      const size_t begin = at_;
      const char c = peek();
      const bool repeats = c == '*' || c == '+' || c == '?' || c == '{';
      repetitions = repeats ? repetitions + 1 : 0;
      if (c == '"') {
        parts.push_back(literal());
      } else if (c == '[') {
        parts.push_back(grammar_.chars(char_class()));
      } else if (c == '.') {
        ++at_;
        parts.push_back(grammar_.chars({{0, 0x10ffff}}));
      } else if (c == '(') {
        ++at_;
        blank(true);
        parts.push_back(alternatives(depth + 1, true));
        if (!take(")")) fail(at_ < text_.size() ? at_ : begin, "this ( is not closed");
      } else if (is_name(c)) {
        const std::string name = this->name();
        parts.push_back(grammar_.rule(number_of(name, begin)));
      } else if (repeats) {
        if (repetitions > kMostRepetitions) fail(at_, "too many repetitions of one another");
        if (parts.empty()) fail(at_, std::string("there is nothing before ") + c + " to repeat");
        parts.back() = repeated(parts.back());
      } else {
        break;
      }
      blank(over_lines);
    }
    return grammar_.sequence(parts);
  }

  Expression repeated(Expression part) {
    const size_t begin = at_;
    const char c = text_[at_++];
    if (c == '*') return grammar_.repeat(part, 0);
    if (c == '+') return grammar_.repeat(part, 1);
    if (c == '?') return grammar_.repeat(part, 0, 1);
    blank(false);
    uint32_t least = 0;
    const bool has_least = peek() != ',';
    if (has_least) least = count();
    uint32_t most = least;
    blank(false);
    if (take(",")) {
      blank(false);
      most = kUnlimited;
      if (peek() != '}') {
        most = count();
      } else if (!has_least) {
        fail(at_, "{,} has no number");
      }
      blank(false);
    }
    if (!take("}")) fail(at_, "expected } after the numbers of a repetition");
    if (most < least) fail(begin, "{m,n} with n below m");
    return grammar_.repeat(part, least, most);
  }

  uint32_t count() {
    const size_t begin = at_;
    uint32_t value = 0;
    while (peek() >= '0' && peek() <= '9') {
      value = value * 10 + static_cast<uint32_t>(peek() - '0');
      if (value > kMostRepeats) {
        fail(begin, "a repetition may count to " + std::to_string(kMostRepeats) + " at most");
      }
      ++at_;
    }
    if (at_ == begin) fail(at_, "expected a number");
    return value;
  }

  Expression literal() {
    const size_t begin = at_++;
    std::string bytes;
    while (true) {
      if (at_ >= text_.size() || text_[at_] == '\n') fail(begin, "this \" is not closed");
      if (take("\"")) break;
      text::append_utf8(bytes, character());
    }
    return grammar_.text(bytes);
  }

  CharRanges char_class() {
    const size_t begin = at_++;
    const bool negated = take("^");
    CharRanges ranges;
    while (true) {
      if (at_ >= text_.size() || text_[at_] == '\n') fail(begin, "this [ is not closed");
      if (take("]")) break;
      const size_t at = at_;
      const uint32_t low = character();
      uint32_t high = low;
      if (peek() == '-' && at_ + 1 < text_.size() && text_[at_ + 1] != ']') {
        ++at_;
        if (at_ >= text_.size() || text_[at_] == '\n') fail(begin, "this [ is not closed");
        high = character();
        if (high < low) fail(at, "a range that ends before it begins");
      }
      ranges.push_back({low, high});
    }
    ranges = normalized(std::move(ranges));
    return negated ? complement(ranges) : ranges;
  }

  // One character of a literal or class, perhaps escaped.
  uint32_t character() {
    const size_t begin = at_;
    if (!take("\\")) {
      const text::Utf8Char c = text::first_char(text_.substr(at_));
      if (!c.valid) fail(begin, "bytes that are no UTF-8");
      at_ += c.size;
      return c.code;
    }
    const char c = peek();
    ++at_;
    switch (c) {
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'x':
        return hex(begin, 2);
      case 'u':
        return hex(begin, 4);
      case 'U':
        return hex(begin, 8);
      case '\\':
      case '"':
      case '\'':
      case '[':
      case ']':
      case '^':
      case '-':
      case '/':
      case '.':
        return static_cast<uint32_t>(c);
      default:
        fail(begin,
             "an unknown escape; there are \\n \\r \\t \\xHH \\uHHHH \\UHHHHHHHH \\\\ \\\" \\[ \\] \\^ \\-");
    }
  }

  uint32_t hex(size_t begin, int digits) {
    uint32_t code = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = peek();
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail(begin, "this escape needs " + std::to_string(digits) + " hexadecimal digits");
      code = code << 4 | static_cast<uint32_t>(digit);
      ++at_;
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) fail(begin, "this escape is no character");
    return code;
  }

  std::string_view text_;
  size_t at_ = 0;
  Grammar grammar_;
  std::unordered_map<std::string, Use> uses_;
};

}  // namespace

Grammar parse_gbnf(std::string_view text) {
  return GbnfParser(text).parse();
}

}  // namespace mllm::grammar
