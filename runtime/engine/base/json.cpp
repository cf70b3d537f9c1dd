#include "base/json.h"

#include <charconv>
#include <cmath>
#include <unordered_set>

#include "base/error.h"
#include "base/number_text.h"

namespace mllm {
namespace {

constexpr int kMaxDepth = 64;

// ASCII that stands for itself in a string.
bool is_plain(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte < 0x80 && c != '"' && c != '\\';
}

void append_utf8(std::string& out, uint32_t code) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

}  // namespace

void JsonReader::fail(const std::string& why) const {
  fail_format(*file_ + ": not valid JSON: " + why + " (at byte " + std::to_string(at_) + ")");
}

void JsonReader::space() {
  while (at_ < text_.size() &&
         (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r'))
    ++at_;
}

bool JsonReader::take(char c) {
  if (at_ >= text_.size() || text_[at_] != c) return false;
  ++at_;
  return true;
}

void JsonReader::word(std::string_view w) {
  if (text_.substr(at_, w.size()) != w) fail("unknown word");
  at_ += w.size();
}

char JsonReader::next_kind() {
  space();
  if (at_ >= text_.size()) fail("the text ends early");
  return text_[at_];
}

void JsonReader::open(char c, const char* what) {
  if (next_kind() != c) fail(std::string("expected ") + what);
  ++at_;
}

bool JsonReader::close(char c) {
  space();
  return take(c);
}

bool JsonReader::comma() {
  return close(',');
}

void JsonReader::end() {
  space();
  if (at_ != text_.size()) fail("something follows the value");
}

std::string JsonReader::key() {
  space();
  if (at_ >= text_.size() || text_[at_] != '"') fail("a key must be a string");
  std::string key = quoted();
  space();
  if (!take(':')) fail("':' is missing");
  return key;
}

std::string JsonReader::string() {
  if (next_kind() != '"') fail("expected a string");
  return quoted();
}

int64_t JsonReader::integer(int64_t low, int64_t high) {
  const char first = next_kind();
  if (first != '-' && (first < '0' || first > '9')) fail("expected an integer");
  Json found;
  number(found);
  const auto* n = std::get_if<int64_t>(&found.value_);
  if (!n || *n < low || *n > high)
    fail("expected an integer from " + std::to_string(low) + " to " + std::to_string(high));
  return *n;
}

Json JsonReader::value(const std::string& path) {
  return value(path, 0);
}

void JsonReader::skip() {
  value("", 0);
}

Json JsonReader::value(const std::string& path, int depth) {
  if (depth > kMaxDepth) fail("nested more than 64 deep");
  Json out;
  out.path_ = path;
  switch (next_kind()) {
    case '{':
      out.value_ = members(path, depth);
      break;
    case '[':
      out.value_ = items(path, depth);
      break;
    case '"':
      out.value_ = quoted();
      break;
    case 't':
      word("true");
      out.value_ = true;
      break;
    case 'f':
      word("false");
      out.value_ = false;
      break;
    case 'n':
      word("null");
      break;
    default:
      number(out);
      break;
  }
  return out;
}

Json::Object JsonReader::members(const std::string& path, int depth) {
  Json::Object members;
  std::unordered_set<std::string> keys;
  object([&](std::string key) {
    if (!keys.insert(key).second) fail("the key \"" + key + "\" appears twice");
    Json member = value(path.ends_with(' ') ? path + key : path + "." + key, depth + 1);
    members.emplace_back(std::move(key), std::move(member));
  });
  return members;
}

Json::Array JsonReader::items(const std::string& path, int depth) {
  Json::Array items;
  array([&] { items.push_back(value(path + "[" + std::to_string(items.size()) + "]", depth + 1)); });
  return items;
}

// -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
void JsonReader::number(Json& out) {
  const size_t start = at_;
  const auto digits = [&] {
    const size_t before = at_;
    while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9') ++at_;
    if (at_ == before) fail("a number is malformed");
    return at_ - before;
  };
  take('-');
  const size_t first = at_;
  if (digits() > 1 && text_[first] == '0') fail("a number starts with 0");
  bool integral = true;
  if (take('.')) {
    digits();
    integral = false;
  }
  if (take('e') || take('E')) {
    if (!take('+')) take('-');
    digits();
    integral = false;
  }
  const char* begin = text_.data() + start;
  const char* end = text_.data() + at_;
  if (integral) {
    int64_t n = 0;
    if (std::from_chars(begin, end, n).ec == std::errc()) {
      out.value_ = n;
      return;
    }
  }
  double d = 0;
  if (std::from_chars(begin, end, d).ec != std::errc() || !std::isfinite(d)) fail("a number is out of range");
  out.value_ = d;
}

uint32_t JsonReader::hex4() {
  if (text_.size() - at_ < 4) fail("a \\u escape is cut off");
  uint32_t code = 0;
  const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + at_ + 4, code, 16);
  if (error != std::errc() || end != text_.data() + at_ + 4) fail("a \\u escape needs four hex digits");
  at_ += 4;
  return code;
}

void JsonReader::escape(std::string& out) {
  if (at_ >= text_.size()) fail("a string is not closed");
  switch (text_[at_++]) {
    case '"':
      out += '"';
      return;
    case '\\':
      out += '\\';
      return;
    case '/':
      out += '/';
      return;
    case 'b':
      out += '\b';
      return;
    case 'f':
      out += '\f';
      return;
    case 'n':
      out += '\n';
      return;
    case 'r':
      out += '\r';
      return;
    case 't':
      out += '\t';
      return;
    case 'u':
      break;
    default:
      fail("an unknown escape");
  }
  uint32_t code = hex4();
  if (code >= 0xdc00 && code < 0xe000) fail("a lone surrogate");
  if (code >= 0xd800 && code < 0xdc00) {
    if (!take('\\') || !take('u')) fail("a lone surrogate");
    const uint32_t low = hex4();
    if (low < 0xdc00 || low >= 0xe000) fail("a lone surrogate");
    code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
  }
  append_utf8(out, code);
}

// One UTF-8 sequence of two to four bytes, shortest form, no surrogates.
void JsonReader::multibyte(std::string& out) {
  const auto lead = static_cast<unsigned char>(text_[at_]);
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text_.size() - at_ < length) fail("invalid UTF-8");
  uint32_t code = lead & (0xff >> (length + 1));
  for (size_t i = 1; i < length; ++i) {
    const auto byte = static_cast<unsigned char>(text_[at_ + i]);
    if ((byte & 0xc0) != 0x80) fail("invalid UTF-8");
    code = code << 6 | (byte & 0x3f);
  }
  if ((length == 3 && code < 0x800) || (length == 4 && (code < 0x10000 || code > 0x10ffff)) ||
      (code >= 0xd800 && code < 0xe000)) {
    fail("invalid UTF-8");
  }
  out.append(text_.substr(at_, length));
  at_ += length;
}

std::string JsonReader::quoted() {
  std::string out;
  ++at_;
  while (true) {
    if (at_ >= text_.size()) fail("a string is not closed");
    const auto c = static_cast<unsigned char>(text_[at_]);
    if (c == '"') break;
    if (c < 0x20) fail("a control character in a string");
    if (c == '\\') {
      ++at_;
      escape(out);
    } else if (c < 0x80) {
      const size_t begin = at_;
      while (at_ < text_.size() && is_plain(text_[at_])) ++at_;
      out.append(text_.substr(begin, at_ - begin));
    } else {
      multibyte(out);
    }
  }
  ++at_;
  return out;
}

Json Json::parse(std::string_view text, const std::string& file) {
  JsonReader reader(text, file);
  Json root = reader.value(file + ": field ");
  reader.end();
  return root;
}

void Json::fail(const std::string& why) const {
  fail_format(path_ + ": " + why);
}

const Json::Object& Json::object() const {
  if (const auto* v = std::get_if<Object>(&value_)) return *v;
  fail("expected an object");
}

const Json::Array& Json::array() const {
  if (const auto* v = std::get_if<Array>(&value_)) return *v;
  fail("expected a list");
}

const Json* Json::find(std::string_view key) const {
  for (const auto& member : object()) {
    if (member.first == key) return &member.second;
  }
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  if (const Json* found = find(key)) return *found;
  fail_format(path_ + (path_.ends_with(' ') ? "" : ".") + std::string(key) + ": missing");
}

bool Json::boolean() const {
  if (const auto* v = std::get_if<bool>(&value_)) return *v;
  fail("expected true or false");
}

int64_t Json::integer(int64_t low, int64_t high) const {
  const auto* v = std::get_if<int64_t>(&value_);
  if (!v) fail("expected an integer");
  if (*v < low || *v > high) {
    fail("must be " + std::to_string(low) + " to " + std::to_string(high) + ", got " + std::to_string(*v));
  }
  return *v;
}

double Json::number() const {
  if (const auto* v = std::get_if<double>(&value_)) return *v;
  if (const auto* v = std::get_if<int64_t>(&value_)) return static_cast<double>(*v);
  fail("expected a number");
}

const std::string& Json::string() const {
  if (const auto* v = std::get_if<std::string>(&value_)) return *v;
  fail("expected a string");
}

std::string json_quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr std::string_view kShort = "\b\t\n\f\r", kLetters = "btnfr";
      const size_t at = kShort.find(c);
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
      out += at == kShort.npos ? std::string(buffer) : std::string{'\\', kLetters[at]};
    } else {
      out += c;
    }
  }
  out += '"';
  return out;
}

namespace {

struct JsonWriter {
  std::string& out;
  int indent;  // of one level; below 0: everything on one line
  int level = 0;

  void line() {
    if (indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent * level), ' ');
  }
  template <class Items, class F>
  void items(char open, char close, const Items& list, const F& write) {
    out += open;
    ++level;
    bool is_first = true;
    for (const auto& item : list) {
      if (!is_first) out += indent < 0 ? ", " : ",";
      is_first = false;
      line();
      write(item);
    }
    --level;
    if (!is_first) line();
    out += close;
  }
  void operator()(std::monostate) { out += "null"; }
  void operator()(bool value) { out += value ? "true" : "false"; }
  void operator()(int64_t value) { out += std::to_string(value); }
  void operator()(double value) { out += number_text(value); }
  void operator()(const std::string& value) { out += json_quoted(value); }
  void operator()(const Json::Array& value) {
    items('[', ']', value, [&](const Json& one) { one.visit(*this); });
  }
  void operator()(const Json::Object& value) {
    items('{', '}', value, [&](const auto& member) {
      out += json_quoted(member.first) + ": ";
      member.second.visit(*this);
    });
  }
};

}  // namespace

std::string json_text(const Json& value, int indent) {
  std::string out;
  JsonWriter writer{out, indent};
  value.visit(writer);
  return out;
}

}  // namespace mllm
