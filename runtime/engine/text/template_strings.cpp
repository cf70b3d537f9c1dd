#include "text/template_strings.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <span>

#include "base/number_text.h"
#include "text/template_unicode_tables.h"
#include "text/unicode.h"

namespace mllm::jinja {
namespace {

const Range& range_of(const Range& row) {
  return row;
}
const Range& range_of(const Mapping& row) {
  return row.from;
}

// The entry that covers the code point, or null. Rows are sorted by their first code point, and those with
// step 2 may overlap a neighbour with step 2, so that rows before must be looked at as well.
template <class Row>
const Row* find_row(std::span<const Row> rows, char32_t point) {
  const auto first = [](const Range& r) { return char32_t{r.high & 0x7fffu} << 16 | r.low; };
  auto row = std::upper_bound(rows.begin(), rows.end(), point,
                              [&](char32_t p, const Row& r) { return p < first(range_of(r)); });
  for (int back = 0; back < 8 && row != rows.begin(); ++back) {
    --row;
    const Range& range = range_of(*row);
    const char32_t step = range.high & 0x8000u ? 2 : 1;
    const char32_t distance = point - first(range);
    if (distance <= range.more * step && distance % step == 0) return &*row;
  }
  return nullptr;
}

bool has(std::span<const Range> rows, char32_t point) {
  return find_row(rows, point) != nullptr;
}

// What the code point maps to in the first table that has it, or itself.
char32_t mapped(std::initializer_list<std::span<const Mapping>> tables, char32_t point) {
  for (const auto& rows : tables) {
    if (const Mapping* row = find_row(rows, point)) {
      return (point & ~char32_t{0xffff}) | ((point + row->distance) & 0xffff);
    }
  }
  return point;
}

// Appends what the code point expands to, if it does.
bool append_expansion(std::u32string& out, std::span<const Expansion> rows, char32_t point) {
  const auto row = std::lower_bound(rows.begin(), rows.end(), point,
                                    [](const Expansion& r, char32_t p) { return r.from < p; });
  if (row == rows.end() || row->from != point) return false;
  for (const char32_t p : row->to) {
    if (p) out += p;
  }
  return true;
}

void append_lower(std::u32string& out, char32_t point) {
  if (!append_expansion(out, kLowerExpansions, point)) out += mapped({kLower}, point);
}

void append_upper(std::u32string& out, char32_t point) {
  if (!append_expansion(out, kUpperExpansions, point)) out += mapped({kUpper}, point);
}

void append_title(std::u32string& out, char32_t point) {
  if (!append_expansion(out, kTitleExpansions, point)) out += mapped({kTitle, kUpper}, point);
}

bool is_cased(char32_t point) {
  return has(kIsLower, point) || has(kIsUpper, point) || has(kIsTitle, point);
}

// A capital sigma ends a word when a cased letter stands before it and none after it.
bool is_final_sigma(std::u32string_view text, size_t at) {
  size_t before = at;
  while (before > 0 && has(kIsCaseIgnorable, text[before - 1])) --before;
  if (before == 0 || !is_cased(text[before - 1])) return false;
  size_t after = at + 1;
  while (after < text.size() && has(kIsCaseIgnorable, text[after])) ++after;
  return after == text.size() || !is_cased(text[after]);
}

void append_lower_in(std::u32string& out, std::u32string_view text, size_t at) {
  if (text[at] == U'Σ') {
    out += is_final_sigma(text, at) ? U'ς' : U'σ';
  } else {
    append_lower(out, text[at]);
  }
}

bool is_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

char ascii_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
}

char ascii_upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c;
}

bool is_line_end(char32_t p) {
  return (p >= 0x0a && p <= 0x0d) || (p >= 0x1c && p <= 0x1e) || p == 0x85 || p == 0x2028 || p == 0x2029;
}

// The byte where the code point in front of `end` begins.
size_t previous(std::string_view text, size_t end) {
  do {
    --end;
  } while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80);
  return end;
}

}  // namespace

void append_utf8(std::string& out, char32_t point) {
  if (point < 0x80) {
    out += static_cast<char>(point);
  } else if (point < 0x800) {
    out += static_cast<char>(0xc0 | point >> 6);
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    out += static_cast<char>(0xe0 | point >> 12);
    out += static_cast<char>(0x80 | (point >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | point >> 18);
    out += static_cast<char>(0x80 | (point >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (point >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (point & 0x3f));
  }
}

char32_t next_code_point(std::string_view text, size_t& at) {
  const auto lead = static_cast<unsigned char>(text[at++]);
  if (lead < 0x80) return lead;
  const int more = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  char32_t point = lead & (0x3f >> more);
  for (int i = 0; i < more && at < text.size(); ++i) {
    point = point << 6 | (static_cast<unsigned char>(text[at++]) & 0x3f);
  }
  return point;
}

bool is_valid_utf8(std::string_view text) {
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at]);
    if (lead < 0x80) {
      ++at;
      continue;
    }
    const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || text.size() - at < length) return false;
    for (size_t i = 1; i < length; ++i) {
      if ((static_cast<unsigned char>(text[at + i]) & 0xc0) != 0x80) return false;
    }
    const char32_t point = next_code_point(text, at);
    if ((length == 3 && point < 0x800) || (length == 4 && (point < 0x10000 || point > 0x10ffff)) ||
        (point >= 0xd800 && point < 0xe000)) {
      return false;
    }
  }
  return true;
}

std::u32string to_code_points(std::string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) out += next_code_point(text, at);
  return out;
}

std::string from_code_points(std::u32string_view points) {
  std::string out;
  out.reserve(points.size());
  for (const char32_t p : points) append_utf8(out, p);
  return out;
}

size_t count_code_points(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

size_t byte_offset(std::string_view text, size_t code_point) {
  size_t at = 0;
  for (; at < text.size(); ++at) {
    if ((static_cast<unsigned char>(text[at]) & 0xc0) != 0x80 && code_point-- == 0) break;
  }
  return at;
}

bool is_space(char32_t p) {
  return (p >= 0x09 && p <= 0x0d) || (p >= 0x1c && p <= 0x20) || p == 0x85 || p == 0xa0 || p == 0x1680 ||
         (p >= 0x2000 && p <= 0x200a) || p == 0x2028 || p == 0x2029 || p == 0x202f || p == 0x205f ||
         p == 0x3000;
}

std::string lower(std::string_view text) {
  std::string ascii(text);
  if (is_ascii(text)) {
    std::ranges::transform(ascii, ascii.begin(), ascii_lower);
    return ascii;
  }
  const std::u32string points = to_code_points(text);
  std::u32string out;
  for (size_t i = 0; i < points.size(); ++i) append_lower_in(out, points, i);
  return from_code_points(out);
}

std::string upper(std::string_view text) {
  std::string ascii(text);
  if (is_ascii(text)) {
    std::ranges::transform(ascii, ascii.begin(), ascii_upper);
    return ascii;
  }
  std::u32string out;
  for (const char32_t p : to_code_points(text)) append_upper(out, p);
  return from_code_points(out);
}

std::string title(std::string_view text) {
  const std::u32string points = to_code_points(text);
  std::u32string out;
  bool in_word = false;
  for (size_t i = 0; i < points.size(); ++i) {
    if (in_word) {
      append_lower_in(out, points, i);
    } else {
      append_title(out, points[i]);
    }
    in_word = is_cased(points[i]);
  }
  return from_code_points(out);
}

std::string capitalize(std::string_view text) {
  const std::u32string points = to_code_points(text);
  std::u32string out;
  for (size_t i = 0; i < points.size(); ++i) {
    if (i == 0) {
      append_title(out, points[i]);
    } else {
      append_lower_in(out, points, i);
    }
  }
  return from_code_points(out);
}

bool is_lower(std::string_view text) {
  bool found = false;
  for (const char32_t p : to_code_points(text)) {
    if (has(kIsUpper, p) || has(kIsTitle, p)) return false;
    found = found || has(kIsLower, p);
  }
  return found;
}

bool is_upper(std::string_view text) {
  bool found = false;
  for (const char32_t p : to_code_points(text)) {
    if (has(kIsLower, p) || has(kIsTitle, p)) return false;
    found = found || has(kIsUpper, p);
  }
  return found;
}

bool is_alpha(char32_t point) {
  using enum text::Category;
  return (bit(text::category(point)) & (bit(Lu) | bit(Ll) | bit(Lt) | bit(Lm) | bit(Lo))) != 0;
}

bool is_decimal(char32_t point) {
  return text::category(point) == text::Category::Nd;
}

bool is_digit(char32_t point) {
  return is_decimal(point) || has(kIsDigitNotDecimal, point);
}

bool is_numeric(char32_t point) {
  using enum text::Category;
  return (bit(text::category(point)) & (bit(Nd) | bit(Nl) | bit(No))) != 0 || has(kIsNumericLetter, point);
}

std::string_view strip(std::string_view text, const std::optional<std::string>& characters, bool left,
                       bool right) {
  const std::u32string set = characters ? to_code_points(*characters) : std::u32string();
  const auto goes = [&](char32_t p) { return characters ? set.find(p) != set.npos : is_space(p); };
  size_t begin = 0;
  size_t end = text.size();
  while (left && begin < end) {
    size_t next = begin;
    if (!goes(next_code_point(text, next))) break;
    begin = next;
  }
  while (right && end > begin) {
    const size_t start = previous(text, end);
    size_t at = start;
    if (!goes(next_code_point(text, at))) break;
    end = start;
  }
  return text.substr(begin, end - begin);
}

std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator,
                               int64_t limit) {
  std::vector<std::string> out;
  if (separator) {
    size_t from = 0;
    while (limit != 0) {
      const size_t found = text.find(*separator, from);
      if (found == text.npos) break;
      out.emplace_back(text.substr(from, found - from));
      from = found + separator->size();
      --limit;
    }
    out.emplace_back(text.substr(from));
    return out;
  }
  while (true) {
    text = strip(text, std::nullopt, true, false);
    if (text.empty()) return out;
    if (limit-- == 0) {
      out.emplace_back(strip(text, std::nullopt, false, true));
      return out;
    }
    size_t end = 0;
    for (size_t at = 0; at < text.size(); end = at) {
      if (is_space(next_code_point(text, at))) break;
    }
    out.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
}

std::vector<std::string> split_right(std::string_view text, const std::optional<std::string>& separator,
                                     int64_t limit) {
  std::vector<std::string> out;
  if (separator) {
    while (limit != 0) {
      const size_t found = text.rfind(*separator);
      if (found == text.npos) break;
      out.emplace_back(text.substr(found + separator->size()));
      text = text.substr(0, found);
      --limit;
    }
    out.emplace_back(text);
  } else {
    while (true) {
      text = strip(text, std::nullopt, false, true);
      if (text.empty()) break;
      if (limit-- == 0) {
        out.emplace_back(strip(text, std::nullopt, true, false));
        break;
      }
      size_t begin = text.size();
      while (begin > 0) {
        const size_t start = previous(text, begin);
        size_t at = start;
        if (is_space(next_code_point(text, at))) break;
        begin = start;
      }
      out.emplace_back(text.substr(begin));
      text = text.substr(0, begin);
    }
  }
  std::ranges::reverse(out);
  return out;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  size_t begin = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = at;
    const char32_t p = next_code_point(text, at);
    if (!is_line_end(p)) continue;
    if (p == '\r' && at < text.size() && text[at] == '\n') ++at;
    out.emplace_back(text.substr(begin, (keep_ends ? at : end) - begin));
    begin = at;
  }
  if (begin < text.size()) out.emplace_back(text.substr(begin));
  return out;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t limit) {
  std::string out;
  size_t at = 0;
  if (from.empty()) {  // between all code points
    while (limit != 0) {
      out += to;
      --limit;
      if (at == text.size()) return out;
      const size_t start = at;
      next_code_point(text, at);
      out += text.substr(start, at - start);
    }
    out += text.substr(at);
    return out;
  }
  while (limit != 0) {
    const size_t found = text.find(from, at);
    if (found == text.npos) break;
    out += text.substr(at, found - at);
    out += to;
    at = found + from.size();
    --limit;
  }
  out += text.substr(at);
  return out;
}

std::string repr(std::string_view text) {
  const char quote = text.find('\'') != text.npos && text.find('"') == text.npos ? '"' : '\'';
  std::string out(1, quote);
  char buffer[24];
  for (size_t at = 0; at < text.size();) {
    const char32_t p = next_code_point(text, at);
    const auto number = static_cast<unsigned>(p);
    if (p == static_cast<char32_t>(quote) || p == '\\') {
      out += '\\';
      out += static_cast<char>(p);
    } else if (p == '\n') {
      out += "\\n";
    } else if (p == '\r') {
      out += "\\r";
    } else if (p == '\t') {
      out += "\\t";
    } else if (has(kIsUnprintable, p)) {
      std::snprintf(buffer, sizeof buffer,
                    p < 0x100     ? "\\x%02x"
                    : p < 0x10000 ? "\\u%04x"
                                  : "\\U%08x",
                    number);
      out += buffer;
    } else {
      append_utf8(out, p);
    }
  }
  return out + quote;
}

std::string repr(double number) {
  return number_text(number);
}

std::string json_string(std::string_view text, bool ascii_only) {
  std::string out = "\"";
  char buffer[24];
  const auto escaped = [&](char32_t p) {
    std::snprintf(buffer, sizeof buffer, "\\u%04x", static_cast<unsigned>(p));
    out += buffer;
  };
  for (size_t at = 0; at < text.size();) {
    const char32_t p = next_code_point(text, at);
    if (p == '"' || p == '\\') {
      out += '\\';
      out += static_cast<char>(p);
    } else if (p == '\n') {
      out += "\\n";
    } else if (p == '\r') {
      out += "\\r";
    } else if (p == '\t') {
      out += "\\t";
    } else if (p == '\b') {
      out += "\\b";
    } else if (p == '\f') {
      out += "\\f";
    } else if (p < 0x20 || (ascii_only && p > 0x7e && p < 0x10000)) {
      escaped(p);
    } else if (ascii_only && p >= 0x10000) {
      escaped(0xd800 + ((p - 0x10000) >> 10));
      escaped(0xdc00 + ((p - 0x10000) & 0x3ff));
    } else {
      append_utf8(out, p);
    }
  }
  return out + "\"";
}

namespace {

// Without underscores between digits, which Python allows; none where one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  const auto is_alphanumeric = [](char c) {
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
  };
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
    } else if (i == 0 || i + 1 == text.size() || !is_alphanumeric(text[i - 1]) ||
               !is_alphanumeric(text[i + 1])) {
      return std::nullopt;
    }
  }
  return out;
}

}  // namespace

std::optional<double> parse_float(std::string_view text) {
  const auto clean = without_underscores(strip(text, std::nullopt, true, true));
  if (!clean) return std::nullopt;
  std::string_view rest = *clean;
  bool negative = false;
  if (!rest.empty() && (rest[0] == '+' || rest[0] == '-')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  const std::string word = lower(rest);
  double value = 0;
  if (word == "inf" || word == "infinity") {
    value = INFINITY;
  } else if (word == "nan") {
    value = NAN;
  } else {
    if (rest.empty() || !((rest[0] >= '0' && rest[0] <= '9') || rest[0] == '.')) return std::nullopt;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (end != rest.data() + rest.size() || error == std::errc::invalid_argument) return std::nullopt;
    // Too large is infinity, too small 0, as in C.
    if (error == std::errc::result_out_of_range) value = std::strtod(std::string(rest).c_str(), nullptr);
  }
  return negative ? -value : value;
}

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  const auto clean = without_underscores(strip(text, std::nullopt, true, true));
  if (!clean) return std::nullopt;
  std::string_view rest = *clean;
  std::string digits;
  if (!rest.empty() && (rest[0] == '+' || rest[0] == '-')) {
    if (rest[0] == '-') digits = "-";
    rest.remove_prefix(1);
  }
  if (rest.size() > 2 && rest[0] == '0') {
    const char mark = ascii_lower(rest[1]);
    const int64_t stated = mark == 'x' ? 16 : mark == 'o' ? 8 : mark == 'b' ? 2 : 0;
    if (stated && (base == stated || base == 0)) {
      base = stated;
      rest.remove_prefix(2);
    }
  }
  if (base == 0) {
    if (rest.size() > 1 && rest[0] == '0' && rest.find_first_not_of('0') != rest.npos) return std::nullopt;
    base = 10;
  }
  if (base < 2 || base > 36 || rest.empty() || rest[0] == '-' || rest[0] == '+') return std::nullopt;
  digits += rest;
  int64_t value = 0;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, static_cast<int>(base));
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return value;
}

}  // namespace mllm::jinja
