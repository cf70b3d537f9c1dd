// Methods of text, mappings and lists: value.name(arguments).
#include <algorithm>
#include <map>
#include <set>

#include "text/template_builtins.h"
#include "text/template_context.h"
#include "text/template_strings.h"

namespace mllm::jinja {
namespace {

using Body = Value (*)(Context&, const Value& self, CallArguments&);

std::optional<std::string> optional_text(const Parameters& p, size_t i) {
  return p[i].is_none() ? std::nullopt : std::optional<std::string>(p.text(i));
}

// ---- Text

template <bool left, bool right>
Value strip_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "strip", a, {"chars"}, 0);
  return c.text(std::string(strip(self.str(), optional_text(p, 0), left, right)), self.is_markup());
}

template <std::string (*change)(std::string_view)>
Value case_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "this method", a, {}, 0);
  return c.text(change(self.str()), self.is_markup());
}

template <auto cut>
Value split_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "split", a, {"sep", "maxsplit"}, 0);
  const auto separator = optional_text(p, 0);
  if (separator && separator->empty()) c.fail("split: the separator is empty");
  c.charge(static_cast<int64_t>(self.str().size()));
  return c.texts(cut(self.str(), separator, p.integer(1, -1)));
}

Value splitlines_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "splitlines", a, {"keepends"}, 0);
  c.charge(static_cast<int64_t>(self.str().size()));
  return c.texts(split_lines(self.str(), p.truth(0, false)));
}

// text[start:end] of methods that take these.
std::string_view part_of(const Value& self, const Parameters& p, size_t first, size_t& begins) {
  const std::string& text = self.str();
  const auto n = static_cast<int64_t>(count_code_points(text));
  const auto bound = [&](size_t i, int64_t otherwise) {
    const int64_t v = p[i].is_none() ? otherwise : p.integer(i, otherwise);
    return v < 0 ? std::max<int64_t>(v + n, 0) : v;
  };
  const int64_t start = bound(first, 0);
  const int64_t end = std::min(bound(first + 1, n), n);
  begins = static_cast<size_t>(start);
  if (start > end) return {nullptr, 0};
  const size_t from = byte_offset(text, static_cast<size_t>(start));
  return std::string_view(text).substr(from, byte_offset(text, static_cast<size_t>(end)) - from);
}

template <bool at_end>
Value with_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, at_end ? "endswith" : "startswith", a, {"prefix", "start", "end"}, 1);
  size_t begins = 0;
  const std::string_view text = part_of(self, p, 1, begins);
  std::vector<Value> choices = {p[0]};
  if (const Sequence* s = p[0].sequence(); s && s->kind == Sequence::Kind::Tuple) choices = s->items;
  for (const Value& one : choices) {
    if (!one.is_text())
      c.fail(std::string("startswith and endswith need text, not '") + one.type_name() + "'");
    if (text.data() && (at_end ? text.ends_with(one.str()) : text.starts_with(one.str()))) return true;
  }
  return false;
}

template <bool from_right, bool must_find>
Value find_method_(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "find", a, {"sub", "start", "end"}, 1);
  size_t begins = 0;
  const std::string_view text = part_of(self, p, 1, begins);
  const size_t found = !text.data() ? text.npos : from_right ? text.rfind(p.text(0)) : text.find(p.text(0));
  if (found == text.npos) {
    if (must_find) c.fail("the text to look for is not there");
    return int64_t{-1};
  }
  return static_cast<int64_t>(begins + count_code_points(text.substr(0, found)));
}

Value count_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "count", a, {"sub", "start", "end"}, 1);
  size_t begins = 0;
  const std::string_view text = part_of(self, p, 1, begins);
  const std::string& sub = p.text(0);
  if (!text.data()) return int64_t{0};
  if (sub.empty()) return static_cast<int64_t>(count_code_points(text)) + 1;
  int64_t n = 0;
  for (size_t at = text.find(sub); at != text.npos; at = text.find(sub, at + sub.size())) ++n;
  return n;
}

Value replace_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "replace", a, {"old", "new", "count"}, 2);
  const std::string& from = p.text(0);
  const std::string& to = p.text(1);
  const size_t size = self.str().size();
  c.check_size(from.empty() ? (size + 1) * (to.size() + 1) : size / from.size() * to.size());
  return c.text(replace(self.str(), from, to, p.integer(2, -1)), self.is_markup());
}

Value join_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "join", a, {"iterable"}, 1);
  std::string out;
  bool is_first = true;
  for (const Value& item : c.items(p[0])) {
    if (!item.is_text()) c.fail(std::string("join needs text, found '") + item.type_name() + "'");
    if (!is_first) c.append_str(out, self);
    is_first = false;
    c.append_str(out, item);
  }
  return c.text(std::move(out), self.is_markup());
}

template <bool at_end>
Value remove_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, at_end ? "removesuffix" : "removeprefix", a, {"prefix"}, 1);
  std::string_view text = self.str();
  const std::string& part = p.text(0);
  if (at_end && text.ends_with(part)) text.remove_suffix(part.size());
  if (!at_end && text.starts_with(part)) text.remove_prefix(part.size());
  return c.text(std::string(text), self.is_markup());
}

template <bool from_right>
Value partition_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "partition", a, {"sep"}, 1);
  const std::string& text = self.str();
  const std::string& mark = p.text(0);
  if (mark.empty()) c.fail("partition: the separator is empty");
  const size_t found = from_right ? text.rfind(mark) : text.find(mark);
  std::vector<Value> out;
  if (found == text.npos) {
    for (int i = 0; i < 3; ++i) out.push_back(c.text(i == (from_right ? 2 : 0) ? text : ""));
  } else {
    out.push_back(c.text(text.substr(0, found)));
    out.push_back(c.text(mark));
    out.push_back(c.text(text.substr(found + mark.size())));
  }
  return c.list(std::move(out), Sequence::Kind::Tuple);
}

enum class Side { Left, Right, Both, Zeros };

template <Side side>
Value pad_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "padding", a, {"width", "fillchar"}, 1);
  std::string fill = side == Side::Zeros ? "0" : " ";
  if (p.has(1)) fill = p.text(1);
  if (count_code_points(fill) != 1) c.fail("the fill character must be one character");
  std::string text = self.str();
  const int64_t missing = p.integer(0, 0) - static_cast<int64_t>(count_code_points(text));
  if (missing <= 0) return self;
  c.check_size(static_cast<size_t>(missing));
  c.check_size(text.size() + static_cast<size_t>(missing) * fill.size());
  // str.center puts the odd one on the left when the width is odd.
  const int64_t left = side == Side::Right || side == Side::Zeros ? missing
                       : side == Side::Both ? missing / 2 + (missing & p.integer(0, 0) & 1)
                                            : 0;
  std::string before, after;
  for (int64_t i = 0; i < missing; ++i) (i < left ? before : after) += fill;
  if (side == Side::Zeros && !text.empty() && (text[0] == '-' || text[0] == '+')) {
    return c.text(text[0] + before + text.substr(1), self.is_markup());
  }
  return c.text(before + text + after, self.is_markup());
}

// "{} {0} {name}" with plain fields.
Value format_method(Context& c, const Value& self, CallArguments& a) {
  const std::string& f = self.str();
  std::string out;
  size_t next = 0;
  bool is_automatic = false, is_manual = false;
  for (size_t i = 0; i < f.size(); ++i) {
    if (f[i] != '{' && f[i] != '}') {
      out += f[i];
      continue;
    }
    if (i + 1 < f.size() && f[i + 1] == f[i]) {
      out += f[i++];
      continue;
    }
    const size_t close = f[i] == '{' ? f.find_first_of("{}", i + 1) : f.npos;
    if (close == f.npos || f[close] != '}') c.fail("a single brace in a format string");
    const std::string field = f.substr(i + 1, close - i - 1);
    i = close;
    if (field.find_first_of(".[!:") != field.npos)
      c.fail_unsupported_here("the format field {" + field + "}");
    const bool is_number = field.find_first_not_of("0123456789") == field.npos;
    if (is_number) {
      (field.empty() ? is_automatic : is_manual) = true;
      if (is_automatic && is_manual) c.fail("a format string numbers its fields or does not, not both");
      const auto index =
          field.empty() ? std::optional<int64_t>(static_cast<int64_t>(next++)) : parse_int(field, 10);
      if (!index || *index >= static_cast<int64_t>(a.positional.size()))
        c.fail("a format string has too few arguments");
      c.append_str(out, a.positional[static_cast<size_t>(*index)]);
    } else {
      const auto found = std::ranges::find_if(a.keywords, [&](const auto& k) { return k.first == field; });
      if (found == a.keywords.end()) c.fail("a format string lacks its argument " + repr(field));
      c.append_str(out, found->second);
    }
    c.check_size(0);
  }
  return c.text(std::move(out), self.is_markup());
}

template <bool (*ask)(std::string_view)>
Value ask_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "this method", a, {}, 0);
  return ask(self.str());
}

bool is_all_space(std::string_view text) {
  return !text.empty() && strip(text, std::nullopt, true, false).empty();
}

// Whether there is a character, and each is of the class.
template <bool (*holds)(char32_t)>
Value class_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "this method", a, {}, 0);
  return !self.str().empty() && std::ranges::all_of(to_code_points(self.str()), holds);
}

bool is_alphanumeric(char32_t point) {
  return is_alpha(point) || is_numeric(point);
}

const std::map<std::string_view, Body> kTextMethods = {
    {"capitalize", case_method<capitalize>},
    {"center", pad_method<Side::Both>},
    {"count", count_method},
    {"endswith", with_method<true>},
    {"find", find_method_<false, false>},
    {"format", format_method},
    {"index", find_method_<false, true>},
    {"isalnum", class_method<is_alphanumeric>},
    {"isalpha", class_method<is_alpha>},
    {"isdecimal", class_method<is_decimal>},
    {"isdigit", class_method<is_digit>},
    {"islower", ask_method<is_lower>},
    {"isnumeric", class_method<is_numeric>},
    {"isspace", ask_method<is_all_space>},
    {"isupper", ask_method<is_upper>},
    {"join", join_method},
    {"ljust", pad_method<Side::Left>},
    {"lower", case_method<lower>},
    {"lstrip", strip_method<true, false>},
    {"partition", partition_method<false>},
    {"removeprefix", remove_method<false>},
    {"removesuffix", remove_method<true>},
    {"replace", replace_method},
    {"rfind", find_method_<true, false>},
    {"rindex", find_method_<true, true>},
    {"rjust", pad_method<Side::Right>},
    {"rpartition", partition_method<true>},
    {"rsplit", split_method<split_right>},
    {"rstrip", strip_method<false, true>},
    {"split", split_method<split>},
    {"splitlines", splitlines_method},
    {"startswith", with_method<false>},
    {"strip", strip_method<true, true>},
    {"title", case_method<title>},
    {"upper", case_method<upper>},
    {"zfill", pad_method<Side::Zeros>},
};

const std::set<std::string_view> kOtherTextMethods = {
    "casefold",    "encode",  "expandtabs", "format_map", "isascii",   "isidentifier",
    "isprintable", "istitle", "maketrans",  "swapcase",   "translate",
};

// ---- Mappings

Value keys_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "keys", a, {}, 0);
  return c.view(c.items(self), "dict_keys");
}

Value values_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "values", a, {}, 0);
  std::vector<Value> out;
  for (const auto& entry : self.dict()->entries) out.push_back(entry.second);
  return c.view(std::move(out), "dict_values");
}

Value items_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "items", a, {}, 0);
  std::vector<Value> out;
  for (const auto& [key, value] : self.dict()->entries) out.push_back(c.pair(key, value));
  return c.view(std::move(out), "dict_items");
}

Value get_method(Context& c, const Value& self, CallArguments& a) {
  if (!a.keywords.empty()) c.fail("get takes no keyword arguments");
  const Parameters p(c, "get", a, {"key", "default"}, 1);
  return c.contains(self, p[0]) ? *self.dict()->find(p[0]) : p[1];
}

Value copy_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "copy", a, {}, 0);
  if (self.sequence()) return c.list(c.items(self));
  auto out = std::make_shared<Dict>();
  for (const auto& [key, value] : self.dict()->entries) c.set(*out, key, value);
  return out;
}

const std::map<std::string_view, Body> kDictMethods = {
    {"copy", copy_method}, {"get", get_method},       {"items", items_method},
    {"keys", keys_method}, {"values", values_method},
};
const std::set<std::string_view> kDictChanges = {"clear", "pop", "popitem", "setdefault", "update"};
const std::set<std::string_view> kOtherDictMethods = {"fromkeys"};

// ---- Lists and tuples

Value list_count_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "count", a, {"value"}, 1);
  return static_cast<int64_t>(
      std::ranges::count_if(self.sequence()->items, [&](const Value& v) { return c.equal(v, p[0]); }));
}

Value list_index_method(Context& c, const Value& self, CallArguments& a) {
  const Parameters p(c, "index", a, {"value"}, 1);
  const auto& items = self.sequence()->items;
  for (size_t i = 0; i < items.size(); ++i) {
    if (c.equal(items[i], p[0])) return static_cast<int64_t>(i);
  }
  c.fail("the value is not in the list");
}

const std::map<std::string_view, Body> kListMethods = {
    {"copy", copy_method}, {"count", list_count_method}, {"index", list_index_method}};
const std::set<std::string_view> kListChanges = {"append", "clear",  "extend",  "insert",
                                                 "pop",    "remove", "reverse", "sort"};

struct Methods {
  const std::map<std::string_view, Body>* callable = nullptr;
  const std::set<std::string_view>* forbidden = nullptr;
  const std::set<std::string_view>* unsupported = nullptr;
};

Methods methods_of(const Value& v) {
  if (v.is_text()) return {&kTextMethods, nullptr, &kOtherTextMethods};
  if (v.dict()) return {&kDictMethods, &kDictChanges, &kOtherDictMethods};
  const Sequence* s = v.sequence();
  if (!s) return {};
  if (s->kind == Sequence::Kind::List) return {&kListMethods, &kListChanges, nullptr};
  if (s->kind == Sequence::Kind::Tuple) return {&kListMethods, nullptr, nullptr};
  return {};
}

}  // namespace

MethodAccess find_method(const Value& self, std::string_view name) {
  const Methods m = methods_of(self);
  const Sequence* s = self.sequence();
  if (s && s->kind == Sequence::Kind::Tuple && name == "copy") return MethodAccess::None;
  if (m.callable && m.callable->contains(name)) return MethodAccess::Callable;
  if (m.forbidden && m.forbidden->contains(name)) return MethodAccess::Forbidden;
  if (m.unsupported && m.unsupported->contains(name)) return MethodAccess::Unsupported;
  return MethodAccess::None;
}

Value call_method(Context& c, const Value& self, const std::string& name, CallArguments& arguments) {
  const Methods m = methods_of(self);
  if (self.is_text()) c.charge(static_cast<int64_t>(self.str().size() / 8));
  return m.callable->at(name)(c, self, arguments);
}

}  // namespace mllm::jinja
