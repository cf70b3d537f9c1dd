#include "grammar/pattern.h"

#include <utility>
#include <vector>

#include "base/error.h"
#include "text/utf8.h"

namespace mllm::grammar {
namespace {

constexpr int kMostDepth = 100;
constexpr uint32_t kMostRepeats = 100'000;

const CharRanges kDigits = {{'0', '9'}};
const CharRanges kWord = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const CharRanges kSpaces = {{'\t', '\r'},     {' ', ' '},       {0xa0, 0xa0},
                            {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
                            {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000}};
// White space to ECMA-262 or to Python, which do not agree.
const CharRanges kMaybeSpaces = {{0x1c, 0x1f}, {0x85, 0x85}, {0xfeff, 0xfeff}};
const CharRanges kLineEnds = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};

CharRanges all_spaces() {
  CharRanges all = kSpaces;
  all.insert(all.end(), kMaybeSpaces.begin(), kMaybeSpaces.end());
  return normalized(std::move(all));
}

class PatternParser {
 public:
  PatternParser(Grammar& grammar, JsonText& json, std::string_view pattern, const std::string& where)
      : g_(grammar), json_(json), pattern_(pattern), where_(where) {}

  Expression parse() {
    std::vector<Expression> choices;
    do {
      const bool from_start = take("^");
      Expression e = alternative(0);
      const bool to_end = take("$");
      if (at_ < pattern_.size() && pattern_[at_] != '|') {
        if (pattern_[at_] == ')') invalid("there is no ( for this )");
        unsupported("^ and $ stand only at the ends of the pattern's outermost alternatives");
      }
      const auto anything = [&] { return g_.repeat(json_.one_way_char(), 0); };
      std::vector<Expression> parts;
      if (!from_start) parts.push_back(anything());
      parts.push_back(e);
      if (!to_end) parts.push_back(anything());
      choices.push_back(g_.sequence(parts));
    } while (take("|"));
    return g_.choice(choices);
  }

 private:
  std::string place() const {
    return where_ + "pattern " + json_quoted(std::string(pattern_)) + " at character " +
           std::to_string(at_ + 1) + ": ";
  }
  [[noreturn]] void invalid(const std::string& why) const { fail_argument(place() + why); }
  [[noreturn]] void unsupported(const std::string& why) const { fail_unsupported(place() + why); }

  bool more() const { return at_ < pattern_.size(); }
  bool take(std::string_view word) {
    if (pattern_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  Expression disjunction(int depth) {
    if (depth > kMostDepth) invalid("nested too deeply");
    std::vector<Expression> choices;
    do choices.push_back(alternative(depth));
    while (take("|"));
    return g_.choice(choices);
  }

  Expression alternative(int depth) {
    std::vector<Expression> parts;
    while (more()) {
      const char c = pattern_[at_];
      if (c == '|' || c == ')' || c == '$') break;
      if (c == '^') unsupported("^ stands only at the beginning of the pattern's outermost alternatives");
      if (c == '*' || c == '+' || c == '?') invalid("there is nothing to repeat");
      parts.push_back(quantified(atom(depth)));
    }
    return g_.sequence(parts);
  }

  Expression atom(int depth) {
    if (take("(")) {
      if (take("?")) {
        if (take("<") && !(pattern_.substr(at_, 1) == "=" || pattern_.substr(at_, 1) == "!")) {
          while (more() && pattern_[at_] != '>') ++at_;
          if (!take(">")) invalid("the name of a group is not closed");
        } else if (!take(":")) {
          unsupported("lookahead and lookbehind are not supported");
        }
      }
      const Expression e = disjunction(depth + 1);
      if (more() && pattern_[at_] == '$')
        unsupported("$ stands only at the end of the pattern's outermost alternatives");
      if (!take(")")) invalid("a ( is not closed");
      return e;
    }
    if (take(".")) return json_.chars(complement(normalized(kLineEnds)));
    if (take("[")) return json_.chars(char_class());
    if (pattern_[at_] == '\\') return json_.chars(escape(false));
    const uint32_t code = literal();
    return json_.chars({{code, code}});
  }

  Expression quantified(Expression part) {
    const size_t begin = at_;
    uint32_t least = 0;
    uint32_t most = kUnlimited;
    if (take("*")) {
    } else if (take("+")) {
      least = 1;
    } else if (take("?")) {
      most = 1;
    } else if (take("{")) {
      const bool known = count(least);
      most = least;
      bool is_closed = false;
      if (known && take(",")) {
        most = kUnlimited;
        count(most);
      }
      is_closed = take("}");
      if (!known || !is_closed) {
        // Not a quantifier: the brace is a character, as everywhere on the Web.
        at_ = begin;
        return part;
      }
      if (most < least) invalid("{m,n} with n below m");
    } else {
      return part;
    }
    take("?");  // lazy: the same texts
    if (more() && (pattern_[at_] == '*' || pattern_[at_] == '+' || pattern_[at_] == '?'))
      invalid("there is nothing to repeat");
    return g_.repeat(part, least, most);
  }

  bool count(uint32_t& value) {
    const size_t begin = at_;
    uint32_t n = 0;
    while (more() && pattern_[at_] >= '0' && pattern_[at_] <= '9') {
      n = n * 10 + static_cast<uint32_t>(pattern_[at_++] - '0');
      if (n > kMostRepeats) invalid("a repetition may count to " + std::to_string(kMostRepeats) + " at most");
    }
    if (at_ == begin) return false;
    value = n;
    return true;
  }

  uint32_t literal() {
    const text::Utf8Char c = text::first_char(pattern_.substr(at_));
    at_ += c.size;
    return c.code;
  }

  CharRanges char_class() {
    const bool negated = take("^");
    CharRanges set;
    if (more() && pattern_[at_] == ']') unsupported("[] and [^] mean different things in different places");
    while (true) {
      if (!more()) invalid("a [ is not closed");
      if (take("]")) break;
      const CharRanges low = class_atom();
      if (at_ + 1 < pattern_.size() && pattern_[at_] == '-' && pattern_[at_ + 1] != ']') {
        ++at_;
        const CharRanges high = class_atom();
        const auto is_one = [](const CharRanges& r) { return r.size() == 1 && r[0].low == r[0].high; };
        if (!is_one(low) || !is_one(high)) invalid("a range between what is no character");
        if (high[0].low < low[0].low) invalid("a range that ends before it begins");
        set.push_back({low[0].low, high[0].low});
      } else {
        set.insert(set.end(), low.begin(), low.end());
      }
    }
    set = normalized(std::move(set));
    return negated ? complement(set) : set;
  }

  CharRanges class_atom() {
    if (!more()) invalid("a [ is not closed");
    if (pattern_[at_] == '\\') return escape(true);
    const uint32_t code = literal();
    return {{code, code}};
  }

  CharRanges escape(bool in_class) {
    ++at_;
    if (!more()) invalid("a backslash at the end");
    const char c = pattern_[at_++];
    const auto one = [](uint32_t code) { return CharRanges{{code, code}}; };
    switch (c) {
      case 'd':
        return kDigits;
      case 'D':
        return complement(kDigits);
      case 'w':
        return kWord;
      case 'W':
        return complement(kWord);
      case 's':
        return kSpaces;
      case 'S':
        return complement(all_spaces());
      case 't':
        return one('\t');
      case 'n':
        return one('\n');
      case 'v':
        return one('\v');
      case 'f':
        return one('\f');
      case 'r':
        return one('\r');
      case '0':
        return one(0);
      case 'x':
        return one(hex(2));
      case 'u':
        return one(code_unit());
      case 'b':
        if (in_class) return one('\b');
        break;
      default:
        break;
    }
    --at_;
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (is_letter) unsupported(std::string("\\") + c + " is not supported");
    return one(literal());
  }

  uint32_t hex(int digits) {
    uint32_t code = 0;
    for (int i = 0; i < digits; ++i) {
      const char c = more() ? pattern_[at_] : '\0';
      const int digit = c >= '0' && c <= '9'   ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) invalid("an escape needs " + std::to_string(digits) + " hexadecimal digits");
      code = code << 4 | static_cast<uint32_t>(digit);
      ++at_;
    }
    return code;
  }

  uint32_t code_unit() {
    const uint32_t high = hex(4);
    if (high < 0xd800 || high > 0xdfff) return high;
    if (high > 0xdbff || !take("\\u")) invalid("half of a surrogate pair");
    const uint32_t low = hex(4);
    if (low < 0xdc00 || low > 0xdfff) invalid("half of a surrogate pair");
    return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
  }

  Grammar& g_;
  JsonText& json_;
  std::string_view pattern_;
  const std::string& where_;
  size_t at_ = 0;
};

#define MLLM_YEAR "([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])"
#define MLLM_LEAP "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
#define MLLM_DATE                                                                                            \
  "(" MLLM_YEAR                                                                                              \
  "-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))" \
  "|" MLLM_LEAP "-02-29)"
#define MLLM_TIME \
  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define MLLM_BYTE "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
#define MLLM_LABEL "[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
#define MLLM_HOST MLLM_LABEL "(\\." MLLM_LABEL "){0,2}"
#define MLLM_ATOM "[a-zA-Z0-9!#$%&'*+/=?^_`{|}~-]+"
#define MLLM_H16 "[0-9a-fA-F]{1,4}"
#define MLLM_UNRESERVED "[a-zA-Z0-9._~!$&'()*+,;=:@-]"

constexpr std::pair<std::string_view, const char*> kFormats[] = {
    {"date", "^" MLLM_DATE "$"},
    {"time", "^" MLLM_TIME "$"},
    {"date-time", "^" MLLM_DATE "T" MLLM_TIME "$"},
    {"duration",
     "^P([0-9]{1,9}W|[0-9]{1,9}Y([0-9]{1,9}M([0-9]{1,9}D)?)?|[0-9]{1,9}M([0-9]{1,9}D)?|[0-9]{1,9}D"
     "|([0-9]{1,9}D)?T([0-9]{1,9}H([0-9]{1,9}M([0-9]{1,9}S)?)?|[0-9]{1,9}M([0-9]{1,9}S)?|[0-9]{1,9}S))$"},
    {"uuid", "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"},
    {"ipv4", "^(" MLLM_BYTE "\\.){3}" MLLM_BYTE "$"},
    {"ipv6", "^((" MLLM_H16 ":){7}" MLLM_H16 "|(" MLLM_H16 ":){1,6}:" MLLM_H16 "|(" MLLM_H16
             ":){1,7}:|:(:" MLLM_H16 "){1,7}|::)$"},
    {"hostname", "^" MLLM_HOST "$"},
    {"email", "^" MLLM_ATOM "(\\." MLLM_ATOM ")*@" MLLM_HOST "$"},
    {"uri", "^[a-z][a-z0-9+.-]*://" MLLM_HOST "(:[0-9]{1,5})?(/" MLLM_UNRESERVED "*)*(\\?(" MLLM_UNRESERVED
            "|[/?])*)?(#(" MLLM_UNRESERVED "|[/?])*)?$"},
    {"json-pointer", "^(/([^~/]|~[01])*)*$"},
};

}  // namespace

Expression parse_pattern(Grammar& grammar, JsonText& json, std::string_view pattern,
                         const std::string& where) {
  return PatternParser(grammar, json, pattern, where).parse();
}

const char* pattern_of_format(std::string_view format) {
  for (const auto& [name, pattern] : kFormats) {
    if (name == format) return pattern;
  }
  return nullptr;
}

}  // namespace mllm::grammar
