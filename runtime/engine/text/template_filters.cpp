// Filters: value | name(arguments), with jinja2's parameters and defaults; `tojson` is Hugging Face's.
#include <algorithm>
#include <cmath>
#include <map>

#include "text/template_builtins.h"
#include "text/template_context.h"
#include "text/template_strings.h"

namespace mllm::jinja {
namespace {

using List = std::vector<Value>;

// What soft_str gives: text stays as it is, everything else becomes its str().
Value soft_text(Context& c, const Value& v) {
  return v.is_text() ? v : Value::text(c.str(v));
}

// "a.b.0" of an item; `fallback`, where not none, for what is missing on the way.
Value path_of(Context& c, Value item, const Value& path, const Value& fallback) {
  if (path.is_none()) return item;
  List parts;
  if (path.is_text()) {
    for (const std::string& part : split(path.str(), ".", -1)) {
      const bool is_index = !part.empty() && part.find_first_not_of("0123456789") == part.npos;
      const auto index = is_index ? parse_int(part, 10) : std::nullopt;
      parts.push_back(index ? Value(*index) : Value::text(part));
    }
  } else {
    parts.push_back(path);
  }
  for (const Value& part : parts) {
    item = c.item(item, part);
    if (item.is_undefined() && !fallback.is_none()) item = fallback;
  }
  return item;
}

Value without_case(const Value& v, bool case_sensitive) {
  return v.is_text() && !case_sensitive ? Value::text(lower(v.str())) : v;
}

struct Keyed {
  Value key, value;
};

// Stable, and safe with comparisons that make no sense (NaN) or throw.
void merge_sort(Context& c, std::vector<Keyed>& items, bool reverse) {
  std::vector<Keyed> other(items.size());
  for (size_t width = 1; width < items.size(); width *= 2) {
    for (size_t low = 0; low < items.size(); low += 2 * width) {
      const size_t middle = std::min(low + width, items.size());
      const size_t high = std::min(low + 2 * width, items.size());
      size_t a = low, b = middle;
      for (size_t to = low; to < high; ++to) {
        const bool takes_b =
            a == middle ||
            (b < high && (reverse ? c.less(items[a].key, items[b].key) : c.less(items[b].key, items[a].key)));
        other[to] = std::move(takes_b ? items[b++] : items[a++]);
      }
    }
    items.swap(other);
  }
}

List sorted(Context& c, std::vector<Keyed> items, bool reverse) {
  c.charge(static_cast<int64_t>(items.size()));
  merge_sort(c, items, reverse);
  List out;
  for (Keyed& k : items) out.push_back(std::move(k.value));
  return out;
}

// ---- Text

Value upper_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "upper", a, {}, 0);
  const Value t = soft_text(c, v);
  return c.text(upper(t.str()), t.is_markup());
}

Value lower_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "lower", a, {}, 0);
  const Value t = soft_text(c, v);
  return c.text(lower(t.str()), t.is_markup());
}

Value capitalize_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "capitalize", a, {}, 0);
  const Value t = soft_text(c, v);
  return c.text(capitalize(t.str()), t.is_markup());
}

// jinja2's own: words begin behind white space, hyphens and opening brackets.
Value title_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "title", a, {}, 0);
  const Value t = soft_text(c, v);
  std::string out;
  std::string word;
  const auto flush = [&] {
    if (word.empty()) return;
    const size_t first = byte_offset(word, 1);
    out += upper(std::string_view(word).substr(0, first)) + lower(std::string_view(word).substr(first));
    word.clear();
  };
  for (size_t at = 0; at < t.str().size();) {
    const char32_t point = next_code_point(t.str(), at);
    if (point == '-' || point == '(' || point == '{' || point == '[' || point == '<' || is_space(point)) {
      flush();
      append_utf8(out, point);
    } else {
      append_utf8(word, point);
    }
  }
  flush();
  return c.text(std::move(out));
}

Value trim_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "trim", a, {"chars"}, 0);
  const Value t = soft_text(c, v);
  const auto characters = p[0].is_none() ? std::nullopt : std::optional<std::string>(p.text(0));
  return c.text(std::string(strip(t.str(), characters, true, true)), t.is_markup());
}

Value string_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "string", a, {}, 0);
  return v.is_text() ? v : c.text(c.str(v));
}

Value replace_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "replace", a, {"old", "new", "count"}, 2);
  const std::string text = c.str(v);
  const std::string from = c.str(p[0]);
  const std::string to = c.str(p[1]);
  c.check_size(from.empty() ? (text.size() + 1) * (to.size() + 1) : text.size() / from.size() * to.size());
  return c.text(replace(text, from, to, p.integer(2, -1)));
}

Value indent_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "indent", a, {"width", "first", "blank"}, 0);
  if (!v.is_text()) c.fail(std::string("indent needs text, not '") + v.type_name() + "'");
  std::string indention;
  if (p[0].is_text()) {
    indention = p[0].str();
  } else {
    const int64_t width = p.integer(0, 4);
    c.check_size(static_cast<size_t>(std::max<int64_t>(width, 0)));
    indention.assign(static_cast<size_t>(std::max<int64_t>(width, 0)), ' ');
  }
  const std::vector<std::string> lines = split_lines(v.str() + "\n", false);
  c.check_size(v.str().size() + lines.size() * indention.size());
  std::string out;
  for (size_t i = 0; i < lines.size(); ++i) {
    if (i) out += '\n';
    if (i ? p.truth(2, false) || !lines[i].empty() : p.truth(1, false)) out += indention;
    out += lines[i];
  }
  return c.text(std::move(out), v.is_markup());
}

Value center_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "center", a, {"width"}, 0);
  const Value t = soft_text(c, v);
  CallArguments width;
  width.positional.emplace_back(p.integer(0, 80));
  return call_method(c, t, "center", width);
}

Value format_filter(Context& c, const Value& v, CallArguments& a) {
  if (!a.positional.empty() && !a.keywords.empty()) {
    c.fail("format takes positional arguments or keywords, not both");
  }
  const Value t = soft_text(c, v);
  if (a.keywords.empty()) return percent_format(c, t, c.list(a.positional, Sequence::Kind::Tuple));
  auto dict = std::make_shared<Dict>();
  for (auto& [name, value] : a.keywords) c.set(*dict, Value::text(name), value);
  return percent_format(c, t, dict);
}

Value escape_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "escape", a, {}, 0);
  return v.is_markup() ? v : c.text(escape_html(c.str(v)), true);
}

Value safe_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "safe", a, {}, 0);
  return c.text(c.str(v), true);
}

Value tojson_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "tojson", a, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  JsonStyle style;
  style.ascii_only = p.truth(0, false);
  style.sort_keys = p.truth(3, false);
  if (p[1].is_text()) {
    style.indent = p[1].str();
  } else if (!p[1].is_none()) {
    const int64_t width = std::max<int64_t>(p.integer(1, 0), 0);
    c.check_size(static_cast<size_t>(width));
    style.indent = std::string(static_cast<size_t>(width), ' ');
  }
  if (style.indent) style.item_separator = ",";
  if (!p[2].is_none()) {
    const List both = c.items(p[2]);
    if (both.size() != 2 || !both[0].is_text() || !both[1].is_text()) {
      c.fail("tojson: separators must be two texts");
    }
    style.item_separator = both[0].str();
    style.key_separator = both[1].str();
  }
  return c.text(c.json(v, style));
}

// ---- Numbers

Value int_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "int", a, {"default", "base"}, 0);
  const Value otherwise = p.has(0) ? p[0] : Value(int64_t{0});
  if (v.is_undefined()) c.fail_undefined(v);
  if (v.is_integral()) return v.integer();
  std::optional<double> number;
  if (v.is_text()) {
    if (const auto n = parse_int(v.str(), p.integer(1, 10))) return *n;
    number = parse_float(v.str());
  } else if (v.is_float()) {
    number = v.number();
    if (std::isinf(*number)) c.fail("an infinite number cannot become an integer");
  }
  if (!number || !std::isfinite(*number)) return otherwise;
  if (std::abs(*number) >= 9.2e18) c.fail("an integer needs more than 64 bits");
  return static_cast<int64_t>(*number);
}

Value float_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "float", a, {"default"}, 0);
  if (v.is_undefined()) c.fail_undefined(v);
  if (v.is_number()) return v.number();
  if (v.is_text()) {
    if (const auto n = parse_float(v.str())) return *n;
  }
  return p.has(0) ? p[0] : Value(0.0);
}

Value round_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "round", a, {"precision", "method"}, 0);
  const std::string method = p.has(1) ? p.text(1) : "common";
  const int64_t precision = p.integer(0, 0);
  if (v.is_undefined()) c.fail_undefined(v);
  if (!v.is_number()) c.fail(std::string("round needs a number, not '") + v.type_name() + "'");
  if (precision < -300 || precision > 300) c.fail("round: the precision must be -300 to 300");
  if (method != "common" && method != "ceil" && method != "floor")
    c.fail("round: method must be common, ceil or floor");
  if (method == "common") {
    if (v.is_integral()) {
      if (precision >= 0) return v.integer();
      c.fail_unsupported_here("rounding an integer to tens");
    }
    if (!std::isfinite(v.number())) return v;
    if (precision < 0) c.fail_unsupported_here("rounding to tens");
    char buffer[700];
    std::snprintf(buffer, sizeof buffer, "%.*f", static_cast<int>(precision), v.number());
    return std::strtod(buffer, nullptr);
  }
  const double scale = std::pow(10.0, static_cast<double>(precision));
  const double scaled = v.number() * scale;
  if (!std::isfinite(scaled)) c.fail("round: the number is not finite");
  return (method == "ceil" ? std::ceil(scaled) : std::floor(scaled)) / scale;
}

Value abs_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "abs", a, {}, 0);
  if (v.is_undefined()) c.fail_undefined(v);
  if (!v.is_number()) c.fail(std::string("abs needs a number, not '") + v.type_name() + "'");
  if (v.is_float()) return std::abs(v.number());
  return v.integer() < 0 ? c.negate(v) : Value(v.integer());
}

// ---- Any value

Value default_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "default", a, {"default_value", "boolean"}, 0);
  if (v.is_undefined() || (p.truth(1, false) && !v.is_true())) return p.has(0) ? p[0] : Value::text("");
  return v;
}

Value length_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "length", a, {}, 0);
  return c.length(v);
}

// ---- Lists

Value list_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "list", a, {}, 0);
  return c.list(c.items(v));
}

Value join_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "join", a, {"d", "attribute"}, 0);
  const std::string separator = p.has(0) ? c.str(p[0]) : "";
  std::string out;
  bool is_first = true;
  for (const Value& item : c.items(v)) {
    if (!is_first) out += separator;
    is_first = false;
    c.append_str(out, path_of(c, item, p[1], {}));
    c.check_size(separator.size());
  }
  return c.text(std::move(out));
}

Value first_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "first", a, {}, 0);
  if (Sequence* s = v.sequence(); s && s->kind == Sequence::Kind::Generator) {
    return s->taken < s->items.size() ? s->items[s->taken++]
                                      : Value::undefined("No first item, sequence was empty.");
  }
  const List items = c.items(v);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

// The items of what Python's reversed() takes.
List reversible_items(Context& c, const Value& v) {
  const Sequence* s = v.sequence();
  if (v.is_undefined() || (s && s->kind == Sequence::Kind::Generator)) {
    c.fail(std::string("'") + v.type_name() + "' object is not reversible");
  }
  return c.items(v);
}

Value last_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "last", a, {}, 0);
  // Of what is undefined, reversed() finds a length of 0.
  const List items = v.is_undefined() ? List() : reversible_items(c, v);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value reverse_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "reverse", a, {}, 0);
  if (v.is_text()) return c.slice(v, {}, {}, int64_t{-1});
  List items = c.items(v);
  std::ranges::reverse(items);
  const Sequence* s = v.sequence();
  const bool was_generator = s && s->kind == Sequence::Kind::Generator;
  return c.list(std::move(items), was_generator ? Sequence::Kind::List : Sequence::Kind::Generator);
}

Value items_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "items", a, {}, 0);
  List out;
  if (!v.is_undefined()) {
    if (!v.dict()) c.fail("items needs a mapping, not '" + std::string(v.type_name()) + "'");
    for (const auto& [key, value] : v.dict()->entries) out.push_back(c.pair(key, value));
  }
  return c.list(std::move(out), Sequence::Kind::Generator);
}

Value sort_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "sort", a, {"reverse", "case_sensitive", "attribute"}, 0);
  std::vector<std::string> paths;
  if (p[2].is_text()) paths = split(p[2].str(), ",", -1);
  std::vector<Keyed> keyed;
  for (const Value& item : c.items(v)) {
    Value key;
    if (paths.size() > 1) {
      List parts;
      for (const std::string& path : paths) {
        parts.push_back(without_case(path_of(c, item, Value::text(path), {}), p.truth(1, false)));
      }
      key = c.list(std::move(parts));
    } else {
      key = without_case(path_of(c, item, p[2], {}), p.truth(1, false));
    }
    keyed.push_back({std::move(key), item});
  }
  return c.list(sorted(c, std::move(keyed), p.truth(0, false)));
}

Value dictsort_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "dictsort", a, {"case_sensitive", "by", "reverse"}, 0);
  const std::string by = p.has(1) ? p.text(1) : "key";
  if (by != "key" && by != "value") c.fail("dictsort: by must be \"key\" or \"value\"");
  if (v.is_undefined()) c.fail_undefined(v);
  if (!v.dict()) c.fail("dictsort needs a mapping, not '" + std::string(v.type_name()) + "'");
  std::vector<Keyed> keyed;
  for (const auto& [key, value] : v.dict()->entries) {
    keyed.push_back({without_case(by == "key" ? key : value, p.truth(0, false)), c.pair(key, value)});
  }
  return c.list(sorted(c, std::move(keyed), p.truth(2, false)));
}

Value unique_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "unique", a, {"case_sensitive", "attribute"}, 0);
  Dict seen;
  List out;
  for (const Value& item : c.items(v)) {
    const Value key = without_case(path_of(c, item, p[1], {}), p.truth(0, false));
    if (!key.is_hashable()) c.fail(std::string("unhashable type: '") + key.type_name() + "'");
    if (seen.find(key)) continue;
    c.set(seen, key, {});
    out.push_back(item);
  }
  return c.list(std::move(out), Sequence::Kind::Generator);
}

Value extreme(Context& c, const Value& v, CallArguments& a, bool wants_least) {
  const Parameters p(c, wants_least ? "min" : "max", a, {"case_sensitive", "attribute"}, 0);
  const List items = c.items(v);
  if (items.empty()) return Value::undefined("No aggregated item, sequence was empty.");
  const auto key_of = [&](const Value& item) {
    return without_case(path_of(c, item, p[1], {}), p.truth(0, false));
  };
  size_t best = 0;
  Value best_key = key_of(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = key_of(items[i]);
    if (wants_least ? c.less(key, best_key) : c.less(best_key, key, ">")) {
      best = i;
      best_key = std::move(key);
    }
  }
  return items[best];
}

Value min_filter(Context& c, const Value& v, CallArguments& a) {
  return extreme(c, v, a, true);
}

Value max_filter(Context& c, const Value& v, CallArguments& a) {
  return extreme(c, v, a, false);
}

Value sum_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "sum", a, {"attribute", "start"}, 0);
  Value total = p.has(1) ? p[1] : Value(int64_t{0});
  if (total.is_text()) c.fail("sum cannot add text; use join");
  for (const Value& item : c.items(v)) total = c.binary(Operator::Add, total, path_of(c, item, p[0], {}));
  return total;
}

Value batch_filter(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "batch", a, {"linecount", "fill_with"}, 1);
  const int64_t count = p.integer(0, 1);
  List out;
  List row;
  for (const Value& item : c.items(v)) {
    if (static_cast<int64_t>(row.size()) == count) out.push_back(c.list(std::exchange(row, {})));
    row.push_back(item);
  }
  if (!row.empty()) {
    while (!p[1].is_none() && static_cast<int64_t>(row.size()) < count) {
      c.charge(4);
      row.push_back(p[1]);
    }
    out.push_back(c.list(std::move(row)));
  }
  return c.list(std::move(out), Sequence::Kind::Generator);
}

// What is false, such as 0 or none, is as good as an empty list to map, select and their like.
Value map_filter(Context& c, const Value& v, CallArguments& a) {
  List out;
  if (!v.is_true()) return c.list({}, Sequence::Kind::Generator);
  if (a.positional.empty() &&
      std::ranges::any_of(a.keywords, [](const auto& k) { return k.first == "attribute"; })) {
    const Parameters p(c, "map", a, {"attribute", "default"}, 1);
    for (const Value& item : c.items(v)) out.push_back(path_of(c, item, p[0], p[1]));
    return c.list(std::move(out), Sequence::Kind::Generator);
  }
  if (a.positional.empty()) c.fail("map needs a filter's name or attribute=…");
  const Value name = a.positional.front();
  a.positional.erase(a.positional.begin());
  const Filter filter = name.is_text() ? find_filter(name.str()) : nullptr;
  if (!filter) c.fail_unsupported_here("the filter " + c.str(name));
  for (const Value& item : c.items(v)) {
    CallArguments copy = a;
    out.push_back(filter(c, item, copy));
  }
  return c.list(std::move(out), Sequence::Kind::Generator);
}

Value select(Context& c, const Value& v, CallArguments& a, bool wanted, bool by_attribute) {
  if (!v.is_true()) return c.list({}, Sequence::Kind::Generator);
  Value path;
  if (by_attribute) {
    if (a.positional.empty()) c.fail("the name of an attribute is missing");
    path = a.positional.front();
    a.positional.erase(a.positional.begin());
  }
  Value name;
  Test test = nullptr;
  if (!a.positional.empty()) {
    name = a.positional.front();
    a.positional.erase(a.positional.begin());
    test = name.is_text() ? find_test(name.str()) : nullptr;
  }
  if (!test && !name.is_none()) c.fail_unsupported_here("the test " + c.str(name));
  List out;
  for (const Value& item : c.items(v)) {
    const Value subject = path_of(c, item, path, {});
    CallArguments copy = a;
    if ((test ? test(c, subject, copy) : subject.is_true()) == wanted) out.push_back(item);
  }
  return c.list(std::move(out), Sequence::Kind::Generator);
}

Value select_filter(Context& c, const Value& v, CallArguments& a) {
  return select(c, v, a, true, false);
}

Value reject_filter(Context& c, const Value& v, CallArguments& a) {
  return select(c, v, a, false, false);
}

Value selectattr_filter(Context& c, const Value& v, CallArguments& a) {
  return select(c, v, a, true, true);
}

Value rejectattr_filter(Context& c, const Value& v, CallArguments& a) {
  return select(c, v, a, false, true);
}

const std::map<std::string_view, Filter> kFilters = {
    {"abs", abs_filter},
    {"batch", batch_filter},
    {"capitalize", capitalize_filter},
    {"center", center_filter},
    {"count", length_filter},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort_filter},
    {"e", escape_filter},
    {"escape", escape_filter},
    {"first", first_filter},
    {"float", float_filter},
    {"format", format_filter},
    {"indent", indent_filter},
    {"int", int_filter},
    {"items", items_filter},
    {"join", join_filter},
    {"last", last_filter},
    {"length", length_filter},
    {"list", list_filter},
    {"lower", lower_filter},
    {"map", map_filter},
    {"max", max_filter},
    {"min", min_filter},
    {"reject", reject_filter},
    {"rejectattr", rejectattr_filter},
    {"replace", replace_filter},
    {"reverse", reverse_filter},
    {"round", round_filter},
    {"safe", safe_filter},
    {"select", select_filter},
    {"selectattr", selectattr_filter},
    {"sort", sort_filter},
    {"string", string_filter},
    {"sum", sum_filter},
    {"title", title_filter},
    {"tojson", tojson_filter},
    {"trim", trim_filter},
    {"unique", unique_filter},
    {"upper", upper_filter},
};

}  // namespace

Filter find_filter(std::string_view name) {
  const auto found = kFilters.find(name);
  return found == kFilters.end() ? nullptr : found->second;
}

}  // namespace mllm::jinja
