#include "text/template_lexer.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>

#include "base/error.h"
#include "text/template_strings.h"

namespace mllm::jinja {
namespace {

// Longer ones first.
constexpr std::array<std::string_view, 26> kOperators = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";",
};

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_name(char c) {
  return is_digit(c) || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

// "\r\n" and "\r" count as "\n", and one at the end of the source is not part of it.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : owned_(normalized(source)), source_(owned_) {}

  std::vector<Token> run() {
    while (at_ < source_.size()) root();
    push(Token::Kind::End, "");
    return std::move(tokens_);
  }

 private:
  [[noreturn]] void fail(const std::string& why) { fail_template(line(), why); }

  // Lines are counted as far as they are asked for, which is always further on.
  int line() {
    line_ += static_cast<int>(std::count(source_.begin() + static_cast<std::ptrdiff_t>(counted_),
                                         source_.begin() + static_cast<std::ptrdiff_t>(at_), '\n'));
    counted_ = at_;
    return line_;
  }

  Token& push(Token::Kind kind, std::string text) {
    tokens_.push_back({kind, line(), std::move(text)});
    return tokens_.back();
  }

  bool looking_at(std::string_view what, size_t at) const { return source_.substr(at, what.size()) == what; }

  size_t skip_space(size_t at) const {
    while (at < source_.size()) {
      size_t next = at;
      if (!is_space(next_code_point(source_, next))) break;
      at = next;
    }
    return at;
  }

  size_t skip_name(std::string_view name, size_t at) const {
    at = skip_space(at);
    return looking_at(name, at) ? skip_space(at + name.size()) : source_.npos;
  }

  // Text in front of a tag, shortened as the tag's sign and lstrip_blocks want it.
  void data(size_t end, char sign, bool is_output) {
    std::string_view text = source_.substr(at_, end - at_);
    if (sign == '-') {
      text = strip(text, std::nullopt, false, true);
    } else if (sign != '+' && !is_output) {
      const size_t newline = text.rfind('\n');
      const size_t start = newline == text.npos ? 0 : newline + 1;
      const bool at_line_start = start > 0 || at_ == 0 || source_[at_ - 1] == '\n';
      if (at_line_start && strip(text.substr(start), std::nullopt, true, false).empty())
        text = text.substr(0, start);
    }
    if (!text.empty()) push(Token::Kind::Data, std::string(text));
    at_ = end;
  }

  void root() {
    size_t tag = at_;
    while (true) {
      tag = source_.find('{', tag);
      if (tag == source_.npos || tag + 1 >= source_.size()) {
        push(Token::Kind::Data, std::string(source_.substr(at_)));
        at_ = source_.size();
        return;
      }
      if (std::strchr("{%#", source_[tag + 1]) && source_[tag + 1]) break;
      ++tag;
    }
    const char kind = source_[tag + 1];
    const size_t sign_at = tag + 2;
    const char sign = sign_at < source_.size() && (source_[sign_at] == '-' || source_[sign_at] == '+')
                          ? source_[sign_at]
                          : '\0';
    const size_t inside = sign_at + (sign ? 1 : 0);
    data(tag, sign, kind == '{');
    if (kind == '#') {
      at_ = inside;
      comment();
    } else if (kind == '{') {
      push(Token::Kind::OutputBegin, "");
      at_ = inside;
      expression("}}", Token::Kind::OutputEnd);
    } else if (const size_t raw_end = end_of_raw_tag(inside); raw_end != source_.npos) {
      at_ = raw_end;
      raw();
    } else {
      push(Token::Kind::BlockBegin, "");
      at_ = inside;
      expression("%}", Token::Kind::BlockEnd);
    }
  }

  // Behind "{% raw %}" without its "{%", or npos.
  size_t end_of_raw_tag(size_t at) const {
    at = skip_name("raw", at);
    if (at == source_.npos) return at;
    if (looking_at("-%}", at)) return skip_space(at + 3);
    return looking_at("%}", at) ? at + 2 : source_.npos;
  }

  // Where the tag that ends with `mark` at `at` is over, or npos when it does not end there.
  size_t end_of_tag(std::string_view mark, size_t at, bool plus, bool trims) const {
    if (at < source_.size() && source_[at] == '-' && looking_at(mark, at + 1)) return skip_space(at + 3);
    if (plus && at < source_.size() && source_[at] == '+' && looking_at(mark, at + 1)) return at + 3;
    if (!looking_at(mark, at)) return source_.npos;
    return at + 2 + (trims && looking_at("\n", at + 2) ? 1 : 0);
  }

  void comment() {
    for (size_t end = at_; end < source_.size(); ++end) {
      const size_t behind = end_of_tag("#}", end, true, true);
      if (behind == source_.npos) continue;
      at_ = behind;
      return;
    }
    fail("a comment is not closed: \"#}\" is missing");
  }

  void raw() {
    for (size_t tag = source_.find("{%", at_); tag != source_.npos; tag = source_.find("{%", tag + 1)) {
      size_t inside = tag + 2;
      const char sign = inside < source_.size() && (source_[inside] == '-' || source_[inside] == '+')
                            ? source_[inside]
                            : '\0';
      inside = skip_name("endraw", inside + (sign ? 1 : 0));
      if (inside == source_.npos) continue;
      const size_t behind = end_of_tag("%}", inside, true, true);
      if (behind == source_.npos) continue;
      data(tag, sign, false);
      at_ = behind;
      return;
    }
    fail("a raw block is not closed: \"{% endraw %}\" is missing");
  }

  void expression(std::string_view mark, Token::Kind end) {
    std::string open;  // the closing brackets that are due
    const bool is_block = end == Token::Kind::BlockEnd;
    while (true) {
      if (open.empty()) {
        const size_t behind = end_of_tag(mark, at_, is_block, is_block);
        if (behind != source_.npos) {
          push(end, "");
          at_ = behind;
          return;
        }
      }
      if (at_ >= source_.size()) fail("a tag is not closed: \"" + std::string(mark) + "\" is missing");
      const size_t next = skip_space(at_);
      if (next != at_) {
        at_ = next;
      } else if (const char c = source_[at_]; is_digit(c)) {
        number();
      } else if (is_name(c)) {
        const size_t start = at_;
        while (at_ < source_.size() && is_name(source_[at_])) ++at_;
        push(Token::Kind::Name, std::string(source_.substr(start, at_ - start)));
      } else if (c == '\'' || c == '"') {
        string(c);
      } else {
        operation(open);
      }
    }
  }

  void operation(std::string& open) {
    const auto found =
        std::ranges::find_if(kOperators, [&](std::string_view o) { return looking_at(o, at_); });
    if (found == kOperators.end()) {
      size_t end = at_;
      next_code_point(source_, end);
      fail("unexpected character " + repr(source_.substr(at_, end - at_)));
    }
    const char c = found->front();
    if (c == '(') open += ')';
    if (c == '[') open += ']';
    if (c == '{') open += '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open.empty()) fail(std::string("unexpected '") + c + "'");
      if (open.back() != c) fail(std::string("unexpected '") + c + "', expected '" + open.back() + "'");
      open.pop_back();
    }
    push(Token::Kind::Operator, std::string(*found));
    at_ += found->size();
  }

  // Digits with single underscores between them; returns where they end, `at` when there are none.
  template <class F>
  size_t digits(size_t at, const F& is_one) const {
    while (at < source_.size()) {
      if (is_one(source_[at])) {
        ++at;
      } else if (source_[at] == '_' && at + 1 < source_.size() && is_one(source_[at + 1])) {
        at += 2;
      } else {
        break;
      }
    }
    return at;
  }

  static std::string without_underscores(std::string_view text) {
    std::string out(text);
    std::erase(out, '_');
    return out;
  }

  void number() {
    const size_t start = at_;
    const size_t whole = digits(start, is_digit);
    size_t end = whole;
    if (start == 0 || source_[start - 1] != '.') {
      if (end + 1 < source_.size() && source_[end] == '.' && is_digit(source_[end + 1])) {
        end = digits(end + 1, is_digit);
      }
      if (end < source_.size() && (source_[end] == 'e' || source_[end] == 'E')) {
        size_t exponent = end + 1;
        if (exponent < source_.size() && (source_[exponent] == '+' || source_[exponent] == '-')) ++exponent;
        if (exponent < source_.size() && is_digit(source_[exponent])) end = digits(exponent, is_digit);
      }
    }
    if (end != whole) {
      Token& token = push(Token::Kind::Float, without_underscores(source_.substr(start, end - start)));
      token.number = parse_float(token.text).value_or(0);
      at_ = end;
      return;
    }
    int base = 10;
    size_t from = start;
    if (source_[start] == '0' && start + 1 < source_.size()) {
      const char mark = static_cast<char>(source_[start + 1] | 0x20);
      const int stated = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
      const auto is_one = [stated](char c) {
        const int value = is_digit(c)                              ? c - '0'
                          : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
                                                                   : 99;
        return value < stated;
      };
      if (stated && digits(start + 2, is_one) > start + 2) {
        base = stated;
        from = start + 2;
        end = digits(from, is_one);
      }
    }
    // Of leading zeros only zeros go on: "012" is 0 and 12, which no rule takes.
    if (base == 10 && source_[start] == '0') end = digits(start, [](char c) { return c == '0'; });
    Token& token = push(Token::Kind::Integer, without_underscores(source_.substr(from, end - from)));
    const char* last = token.text.data() + token.text.size();
    if (std::from_chars(token.text.data(), last, token.integer, base).ec != std::errc()) {
      fail("the number " + token.text + " needs more than 64 bits");
    }
    at_ = end;
  }

  void string(char quote) {
    size_t end = at_ + 1;
    while (end < source_.size() && source_[end] != quote) end += source_[end] == '\\' ? 2 : 1;
    if (end >= source_.size()) fail(std::string("a string is not closed: ") + quote + " is missing");
    push(Token::Kind::String, unescaped(source_.substr(at_ + 1, end - at_ - 1)));
    at_ = end + 1;
  }

  // Python's escapes; an unknown one stays as it is, backslash included.
  std::string unescaped(std::string_view text) {
    std::string out;
    for (size_t i = 0; i < text.size();) {
      if (text[i] != '\\') {
        out += text[i++];
        continue;
      }
      const size_t escape = ++i;  // a backslash is never the last character
      const char c = text[i++];
      switch (c) {
        case '\n':
          break;
        case '\\':
        case '\'':
        case '"':
          out += c;
          break;
        case 'a':
          out += '\a';
          break;
        case 'b':
          out += '\b';
          break;
        case 'f':
          out += '\f';
          break;
        case 'n':
          out += '\n';
          break;
        case 'r':
          out += '\r';
          break;
        case 't':
          out += '\t';
          break;
        case 'v':
          out += '\v';
          break;
        case 'x':
          hexadecimal(text, i, 2, out);
          break;
        case 'u':
          hexadecimal(text, i, 4, out);
          break;
        case 'U':
          hexadecimal(text, i, 8, out);
          break;
        case 'N':
          fail_unsupported("chat template: line " + std::to_string(line()) +
                           ": the escape \\N{…} is not supported");
        default:
          if (c >= '0' && c <= '7') {
            char32_t point = 0;
            i = escape;
            for (int n = 0; n < 3 && i < text.size() && text[i] >= '0' && text[i] <= '7'; ++n) {
              point = point * 8 + static_cast<char32_t>(text[i++] - '0');
            }
            append_utf8(out, point);
          } else if (static_cast<unsigned char>(c) < 0x80) {
            out += '\\';
            out += c;
          } else {
            // jinja2 spells such a character as an escape first, whose backslash the one before it then
            // quotes.
            i = escape;
            const auto point = static_cast<unsigned>(next_code_point(text, i));
            char buffer[16];
            std::snprintf(buffer, sizeof buffer,
                          point < 0x100     ? "\\x%02x"
                          : point < 0x10000 ? "\\u%04x"
                                            : "\\U%08x",
                          point);
            out += buffer;
          }
      }
    }
    return out;
  }

  void hexadecimal(std::string_view text, size_t& at, size_t count, std::string& out) {
    uint32_t point = 0;
    const std::string_view digits = text.substr(std::min(at, text.size()), count);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), point, 16);
    if (digits.size() != count || error != std::errc() || end != digits.data() + count) {
      fail("an escape in a string needs " + std::to_string(count) + " hexadecimal digits");
    }
    if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000)) {
      fail("an escape in a string is no Unicode character");
    }
    append_utf8(out, point);
    at += count;
  }

  const std::string owned_;
  const std::string_view source_;
  size_t at_ = 0;
  size_t counted_ = 0;
  int line_ = 1;
  std::vector<Token> tokens_;
};

}  // namespace

void fail_template(int line, const std::string& why) {
  fail_format("chat template: line " + std::to_string(line) + ": " + why);
}

std::vector<Token> tokenize(std::string_view source) {
  if (!is_valid_utf8(source)) fail_format("chat template: not valid UTF-8");
  return Lexer(source).run();
}

}  // namespace mllm::jinja
