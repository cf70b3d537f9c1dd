#include "grammar/json_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/error.h"

namespace mllm::grammar {
namespace {

constexpr uint64_t kLargestInteger = 999'999'999'999'999'999;  // without bounds
constexpr uint64_t kLargestWhole = 999'999'999'999'999;        // of a number between bounds
constexpr uint32_t kFractionDigits = 15;                       // … and behind its point

// "" where the character needs no escape.
std::string escape(uint32_t code) {
  switch (code) {
    case '"':
      return "\\\"";
    case '\\':
      return "\\\\";
    case '\b':
      return "\\b";
    case '\f':
      return "\\f";
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  if (code >= 0x20) return "";
  char buffer[8];
  std::snprintf(buffer, sizeof buffer, "\\u%04x", code);
  return buffer;
}

bool contains(const CharRanges& set, uint32_t code) {
  return std::any_of(set.begin(), set.end(),
                     [&](const CharRange& r) { return r.low <= code && code <= r.high; });
}

CharRange digit_range(char low, char high) {
  return {static_cast<uint32_t>(low), static_cast<uint32_t>(high)};
}

char next(char c) {
  return static_cast<char>(c + 1);
}

char previous(char c) {
  return static_cast<char>(c - 1);
}

}  // namespace

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const std::string special = byte < 0x80 ? escape(byte) : "";
    if (special.empty()) {
      out += c;
    } else {
      out += special;
    }
  }
  return out;
}

bool NumberRange::contains(double value) const {
  if (low && (value < low->value || (low->excluded && value == low->value))) return false;
  return !high || value < high->value || (!high->excluded && value == high->value);
}

Expression JsonText::blank() {
  if (!blank_) {
    const Expression indent = g_.choice({g_.repeat(g_.text(" "), 0, 40), g_.repeat(g_.text("\t"), 1, 20)});
    const uint32_t rule = g_.add_rule("blank");
    g_.define(rule, g_.choice({g_.empty(), g_.text(" "), g_.sequence({g_.text("\n"), indent})}));
    blank_ = g_.rule(rule);
  }
  return *blank_;
}

Expression JsonText::any_char() {
  if (!any_char_) {
    const auto set = [&](CharRanges ranges) { return g_.chars(ranges); };
    const Expression hex = set({{'0', '9'}, {'a', 'f'}, {'A', 'F'}});
    const Expression d = set({{'d', 'd'}, {'D', 'D'}});
    // A surrogate is no character: a high one needs its low one.
    const Expression code = g_.choice({
        g_.sequence({set({{'0', '9'}, {'a', 'c'}, {'e', 'f'}, {'A', 'C'}, {'E', 'F'}}), hex, hex, hex}),
        g_.sequence({d, set({{'0', '7'}}), hex, hex}),
        g_.sequence({d, set({{'8', '9'}, {'a', 'b'}, {'A', 'B'}}), hex, hex, g_.text("\\u"), d,
                     set({{'c', 'f'}, {'C', 'F'}}), hex, hex}),
    });
    const Expression letter = set(
        {{'"', '"'}, {'\\', '\\'}, {'/', '/'}, {'b', 'b'}, {'f', 'f'}, {'n', 'n'}, {'r', 'r'}, {'t', 't'}});
    const Expression plain = g_.chars(complement(normalized({{0, 0x1f}, {'"', '"'}, {'\\', '\\'}})));
    const uint32_t rule = g_.add_rule("character");
    g_.define(rule,
              g_.choice({plain, g_.sequence({g_.text("\\"),
                                             g_.choice({letter, g_.sequence({g_.text("u"), code})})})}));
    any_char_ = g_.rule(rule);
  }
  return *any_char_;
}

Expression JsonText::chars(const CharRanges& set) {
  const CharRanges wanted = normalized(set);
  std::vector<Expression> choices;
  CharRanges plain;
  for (CharRange r : wanted) {
    // Cut out what must be escaped.
    for (const uint32_t special : {uint32_t{'"'}, uint32_t{'\\'}}) {
      if (r.low <= special && special <= r.high) {
        if (r.low < special) plain.push_back({r.low, special - 1});
        r.low = special + 1;
      }
    }
    if (r.low <= r.high) plain.push_back(r);
  }
  for (CharRange& r : plain) r.low = std::max(r.low, 0x20u);
  std::erase_if(plain, [](const CharRange& r) { return r.low > r.high; });
  if (!plain.empty()) choices.push_back(g_.chars(plain));
  for (uint32_t code = 0; code <= '\\'; ++code) {
    const std::string special = escape(code);
    if (!special.empty() && contains(wanted, code)) choices.push_back(g_.text(special));
  }
  return g_.choice(choices);
}

Expression JsonText::quoted(Expression body) {
  return g_.sequence({g_.text("\""), body, g_.text("\"")});
}

Expression JsonText::digits(uint32_t least, uint32_t most) {
  return g_.repeat(g_.chars({{'0', '9'}}), least, most);
}

// ---- Integers between bounds

Expression JsonText::digits_from(std::string_view low) {
  if (low.empty()) return g_.empty();
  std::vector<Expression> choices = {g_.sequence({g_.text(low.substr(0, 1)), digits_from(low.substr(1))})};
  if (low[0] < '9') {
    const auto rest = static_cast<uint32_t>(low.size() - 1);
    choices.push_back(g_.sequence({g_.chars({digit_range(next(low[0]), '9')}), digits(rest, rest)}));
  }
  return g_.choice(choices);
}

Expression JsonText::digits_to(std::string_view high) {
  if (high.empty()) return g_.empty();
  std::vector<Expression> choices = {g_.sequence({g_.text(high.substr(0, 1)), digits_to(high.substr(1))})};
  if (high[0] > '0') {
    const auto rest = static_cast<uint32_t>(high.size() - 1);
    choices.push_back(g_.sequence({g_.chars({digit_range('0', previous(high[0]))}), digits(rest, rest)}));
  }
  return g_.choice(choices);
}

Expression JsonText::same_length(std::string_view low, std::string_view high) {
  if (low.empty()) return g_.empty();
  const std::string_view low_rest = low.substr(1);
  const std::string_view high_rest = high.substr(1);
  if (low[0] == high[0]) return g_.sequence({g_.text(low.substr(0, 1)), same_length(low_rest, high_rest)});
  std::vector<Expression> choices = {g_.sequence({g_.text(low.substr(0, 1)), digits_from(low_rest)}),
                                     g_.sequence({g_.text(high.substr(0, 1)), digits_to(high_rest)})};
  if (next(low[0]) < high[0]) {
    const auto rest = static_cast<uint32_t>(low_rest.size());
    choices.push_back(
        g_.sequence({g_.chars({digit_range(next(low[0]), previous(high[0]))}), digits(rest, rest)}));
  }
  return g_.choice(choices);
}

// From low to high, both included.
Expression JsonText::natural(uint64_t low, uint64_t high) {
  std::vector<Expression> choices;
  while (low <= high) {
    const std::string first = std::to_string(low);
    // The last number with as many digits.
    const std::string nines(first.size(), '9');
    const std::string last = first.size() < std::to_string(high).size() ? nines : std::to_string(high);
    choices.push_back(same_length(first, last));
    if (first.size() == std::to_string(high).size()) break;
    low = 1;
    for (size_t i = 0; i < first.size(); ++i) low *= 10;
  }
  return g_.choice(choices);
}

Expression JsonText::integer(const NumberRange& range, const std::string& where) {
  if (!range.low && !range.high) {
    return g_.sequence({g_.optional(g_.text("-")),
                        g_.choice({g_.text("0"), g_.sequence({g_.chars({{'1', '9'}}), digits(0, 17)})})});
  }
  // As whole numbers, within what 18 digits hold; doubles are exact far enough.
  const auto limit = static_cast<double>(kLargestInteger);
  const auto whole = [&](const Bound& b, bool is_low) -> int64_t {
    double v = is_low ? std::ceil(b.value) : std::floor(b.value);
    if (b.excluded && v == b.value) v += is_low ? 1 : -1;
    if (std::abs(v) > 0x1p53 && std::abs(v) < limit)
      fail_unsupported(where + "bounds of integers beyond 2^53 are not supported");
    return v >= limit    ? static_cast<int64_t>(kLargestInteger)
           : v <= -limit ? -static_cast<int64_t>(kLargestInteger)
                         : static_cast<int64_t>(v);
  };
  if ((range.low && range.low->value > limit) || (range.high && range.high->value < -limit))
    return g_.never();
  const int64_t low = range.low ? whole(*range.low, true) : -static_cast<int64_t>(kLargestInteger);
  const int64_t high = range.high ? whole(*range.high, false) : static_cast<int64_t>(kLargestInteger);
  if (low > high) return g_.never();
  std::vector<Expression> choices;
  if (high >= 0)
    choices.push_back(natural(static_cast<uint64_t>(std::max<int64_t>(low, 0)), static_cast<uint64_t>(high)));
  if (low < 0) {
    const auto least = static_cast<uint64_t>(std::max<int64_t>(-high, 1));
    choices.push_back(g_.sequence({g_.text("-"), natural(least, static_cast<uint64_t>(-low))}));
  }
  return g_.choice(choices);
}

Expression JsonText::multiples(int64_t factor) {
  // The node of a remainder is 3 + it; 0 is the start, 1 follows a minus, 2 a zero at the beginning.
  Dfa dfa;
  dfa.nodes.resize(static_cast<size_t>(factor) + 3);
  const auto node = [&](int64_t remainder) { return static_cast<uint32_t>(3 + remainder % factor); };
  for (const size_t begin : {0, 1}) {
    std::vector<Edge>& edges = dfa.nodes[begin].bytes;
    if (begin == 0) edges.push_back({'-', '-', 1});
    edges.push_back({'0', '0', 2});
    for (uint8_t d = 1; d < 10; ++d) {
      const auto byte = static_cast<uint8_t>('0' + d);
      edges.push_back({byte, byte, node(d)});
    }
  }
  dfa.nodes[2].accepts = true;
  dfa.nodes[3].accepts = true;
  for (int64_t r = 0; r < factor; ++r) {
    for (uint8_t d = 0; d < 10; ++d) {
      const auto byte = static_cast<uint8_t>('0' + d);
      dfa.nodes[static_cast<size_t>(3 + r)].bytes.push_back({byte, byte, node(10 * r + d)});
    }
  }
  return g_.both(g_.machine(std::move(dfa)), integer({}, ""));
}

// ---- Numbers between bounds

JsonText::Decimal JsonText::decimal(double value) {
  char buffer[400];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::fixed).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t point = std::min(text.find('.'), text.size());
  Decimal out;
  std::from_chars(text.data(), text.data() + point, out.whole);
  if (point < text.size()) out.fraction = text.substr(point + 1);
  while (out.fraction.ends_with('0')) out.fraction.pop_back();
  return out;
}

// Up to `most` digits, not all of them zero.
Expression JsonText::not_zero(uint32_t most) {
  Expression rest = g_.never();
  for (uint32_t left = 0; left < most; ++left)
    rest = g_.choice(
        {g_.sequence({g_.chars({{'1', '9'}}), digits(0, left)}), g_.sequence({g_.text("0"), rest})});
  return rest;
}

// Numbers without sign and exponent from the bound on. They have few enough digits behind the point for what
// is not the bound as a text not to be it as a double.
Expression JsonText::at_least(const Decimal& bound, bool excluded) {
  const std::string& f = bound.fraction;
  const auto size = static_cast<uint32_t>(f.size());
  const uint32_t most = std::max(fraction_digits_, size + 1);
  // From the last digit of the fraction to its first.
  Expression rest = excluded ? not_zero(most - size) : digits(0, most - size);
  for (uint32_t i = size; i-- > 0;) {
    std::vector<Expression> choices = {g_.sequence({g_.text(std::string_view(f).substr(i, 1)), rest})};
    if (f[i] < '9')
      choices.push_back(g_.sequence({g_.chars({digit_range(next(f[i]), '9')}), digits(0, most - i - 1)}));
    rest = g_.choice(choices);
  }
  const Expression any = g_.optional(g_.sequence({g_.text("."), digits(1, most)}));
  const bool from_whole = f.empty() && !excluded;
  std::vector<Expression> choices = {
      g_.sequence({natural(bound.whole, bound.whole), from_whole ? any : g_.sequence({g_.text("."), rest})})};
  if (bound.whole < kLargestWhole)
    choices.push_back(g_.sequence({natural(bound.whole + 1, kLargestWhole), any}));
  return g_.choice(choices);
}

Expression JsonText::at_most(const Decimal& bound, bool excluded) {
  const std::string& f = bound.fraction;
  const auto size = static_cast<uint32_t>(f.size());
  const uint32_t most = std::max(fraction_digits_, size + 1);
  std::vector<Expression> choices;
  if (bound.whole > 0)
    choices.push_back(g_.sequence(
        {natural(0, bound.whole - 1), g_.optional(g_.sequence({g_.text("."), digits(1, most)}))}));
  const Expression whole = natural(bound.whole, bound.whole);
  if (f.empty()) {
    const Expression zeros = g_.sequence({g_.text("."), g_.repeat(g_.text("0"), 1, most)});
    if (!excluded) choices.push_back(g_.sequence({whole, g_.optional(zeros)}));
    return g_.choice(choices);
  }
  // What may follow when all digits so far were the bound's own.
  Expression rest = excluded ? g_.never() : g_.repeat(g_.text("0"), 0, most - size);
  for (uint32_t i = size; i-- > 0;) {
    // A text that ends early is below the bound.
    const Expression same = i + 1 < size ? g_.optional(rest) : rest;
    std::vector<Expression> digit = {g_.sequence({g_.text(std::string_view(f).substr(i, 1)), same})};
    if (f[i] > '0')
      digit.push_back(g_.sequence({g_.chars({digit_range('0', previous(f[i]))}), digits(0, most - i - 1)}));
    rest = g_.choice(digit);
  }
  choices.push_back(g_.sequence({whole, g_.optional(g_.sequence({g_.text("."), rest}))}));
  return g_.choice(choices);
}

Expression JsonText::number(const NumberRange& range, const std::string& where) {
  if (!range.low && !range.high) {
    const Expression whole = g_.choice({g_.text("0"), g_.sequence({g_.chars({{'1', '9'}}), digits(0, 15)})});
    const Expression fraction = g_.sequence({g_.text("."), digits(1, 20)});
    const Expression exponent = g_.sequence(
        {g_.chars({{'e', 'e'}, {'E', 'E'}}), g_.optional(g_.chars({{'+', '+'}, {'-', '-'}})), digits(1, 2)});
    return g_.sequence({g_.optional(g_.text("-")), whole, g_.optional(fraction), g_.optional(exponent)});
  }
  const auto limit = static_cast<double>(kLargestWhole);
  NumberRange r = range;
  if (r.low && r.low->value < -limit) r.low.reset();
  if (r.high && r.high->value > limit) r.high.reset();
  if ((r.low && r.low->value > limit) || (r.high && r.high->value < -limit))
    fail_unsupported(where + "bounds of numbers beyond 10^15 are not supported");
  if (r.low && r.high && r.low->value > r.high->value) return g_.never();
  fraction_digits_ = kFractionDigits;
  for (const std::optional<Bound>& bound : {r.low, r.high}) {
    if (!bound || !bound->excluded) continue;
    const auto whole_digits =
        static_cast<uint32_t>(std::to_string(decimal(std::abs(bound->value)).whole).size());
    fraction_digits_ = std::min(fraction_digits_, std::max(16 - whole_digits, 1u));
  }
  const Decimal zero;
  std::vector<Expression> choices;
  if (!r.high || r.high->value >= 0) {
    Expression e =
        r.low && r.low->value >= 0 ? at_least(decimal(r.low->value), r.low->excluded) : at_least(zero, false);
    if (r.high) e = g_.both(e, at_most(decimal(r.high->value), r.high->excluded));
    choices.push_back(e);
  }
  if (!r.low || r.low->value < 0) {
    // The other way round, behind a minus. A bound of zero that is excluded excludes "-0" too.
    Expression e = r.high && r.high->value <= 0 ? at_least(decimal(-r.high->value), r.high->excluded)
                                                : at_least(zero, false);
    if (r.low) e = g_.both(e, at_most(decimal(-r.low->value), r.low->excluded));
    choices.push_back(g_.sequence({g_.text("-"), e}));
  }
  return g_.choice(choices);
}

}  // namespace mllm::grammar
