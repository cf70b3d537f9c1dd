#include "grammar/json_schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "grammar/json_text.h"
#include "grammar/pattern.h"
#include "grammar/program.h"

namespace mllm::grammar {
namespace {

constexpr size_t kMostBytes = 4 << 20;
constexpr size_t kMostRules = 20'000;
constexpr size_t kMostProperties = 2'000;
constexpr int kMostDepth = 100;
constexpr int kMostCombined = 1'000;  // schemas that hold at one place together
constexpr uint32_t kMostCount = 1'000'000;
constexpr int kAnyDepth = 12;  // nesting of values that a schema says nothing about
constexpr int64_t kLargestFactor = 4'096;

template <class T>
const T* get_if(const Json& json) {
  return json.visit([](const auto& v) -> const T* {
    if constexpr (std::is_same_v<std::decay_t<decltype(v)>, T>) {
      return &v;
    } else {
      return nullptr;
    }
  });
}

std::optional<double> number_of(const Json& json) {
  if (const auto* i = get_if<int64_t>(json)) return static_cast<double>(*i);
  if (const auto* d = get_if<double>(json)) return *d;
  return std::nullopt;
}

bool equal(const Json& a, const Json& b) {
  const auto x = number_of(a);
  const auto y = number_of(b);
  if (x || y) return x && y && *x == *y;
  if (a.is_null() || b.is_null()) return a.is_null() && b.is_null();
  if (a.is_string() && b.is_string()) return a.string() == b.string();
  const auto* p = get_if<bool>(a);
  const auto* q = get_if<bool>(b);
  if (p || q) return p && q && *p == *q;
  if (a.is_array() && b.is_array())
    return std::equal(a.array().begin(), a.array().end(), b.array().begin(), b.array().end(), equal);
  if (!a.is_object() || !b.is_object() || a.object().size() != b.object().size()) return false;
  return std::all_of(a.object().begin(), a.object().end(), [&](const auto& member) {
    const Json* other = b.find(member.first);
    return other && equal(member.second, *other);
  });
}

// Kinds of values, as bits. Every number is an integer or a fraction.
enum Type : uint32_t {
  Null = 1,
  Boolean = 2,
  Integer = 4,
  Fraction = 8,
  String = 16,
  Array = 32,
  Object = 64
};
constexpr uint32_t kNumber = Integer | Fraction;
constexpr uint32_t kAllTypes = 127;

uint32_t type_of(const Json& value) {
  if (value.is_null()) return Null;
  if (get_if<bool>(value)) return Boolean;
  if (const auto n = number_of(value)) return *n == std::floor(*n) ? Integer : Fraction;
  return value.is_string() ? String : value.is_array() ? Array : Object;
}

uint32_t type_named(std::string_view name) {
  static constexpr std::pair<std::string_view, uint32_t> kNames[] = {
      {"null", Null},     {"boolean", Boolean}, {"integer", Integer}, {"number", kNumber},
      {"string", String}, {"array", Array},     {"object", Object}};
  for (const auto& [known, type] : kNames) {
    if (known == name) return type;
  }
  return 0;
}

// What is known of a keyword: the type of value that it is about (0: any, or none in particular).
struct Keyword {
  std::string_view name;
  uint32_t about;
};
constexpr Keyword kKeywords[] = {
    {"type", 0},
    {"enum", 0},
    {"const", 0},
    {"nullable", 0},
    {"$ref", 0},
    {"allOf", 0},
    {"anyOf", 0},
    {"oneOf", 0},
    {"properties", Object},
    {"required", Object},
    {"additionalProperties", Object},
    {"patternProperties", Object},
    {"propertyNames", Object},
    {"minProperties", Object},
    {"maxProperties", Object},
    {"items", Array},
    {"prefixItems", Array},
    {"additionalItems", Array},
    {"minItems", Array},
    {"maxItems", Array},
    {"uniqueItems", Array},
    {"minLength", String},
    {"maxLength", String},
    {"pattern", String},
    {"format", String},
    {"minimum", kNumber},
    {"maximum", kNumber},
    {"exclusiveMinimum", kNumber},
    {"exclusiveMaximum", kNumber},
    {"multipleOf", kNumber},
};
// These say nothing about what is valid.
constexpr std::string_view kAnnotations[] = {
    "title",       "description",     "default",          "examples",      "example",      "deprecated",
    "readOnly",    "writeOnly",       "$comment",         "$schema",       "$id",          "id",
    "$anchor",     "$defs",           "definitions",      "$vocabulary",   "xml",          "externalDocs",
    "contentType", "contentEncoding", "contentMediaType", "contentSchema", "discriminator"};

const Keyword* keyword(std::string_view name) {
  for (const Keyword& k : kKeywords) {
    if (k.name == name) return &k;
  }
  return nullptr;
}

bool is_annotation(std::string_view name) {
  return name.starts_with("x-") ||
         std::find(std::begin(kAnnotations), std::end(kAnnotations), name) != std::end(kAnnotations);
}

std::string pointer_part(std::string_view key) {
  std::string out = "/";
  for (const char c : key) {
    if (c == '~') {
      out += "~0";
    } else if (c == '/') {
      out += "~1";
    } else {
      out += c;
    }
  }
  return out;
}

// One of the schemas that hold together. `done`: alternatives of it that were chosen already.
struct Part {
  const Json* schema;
  uint32_t done = 0;
  friend auto operator<=>(const Part&, const Part&) = default;
};
constexpr std::pair<const char*, uint32_t> kGroups[] = {{"anyOf", 1}, {"oneOf", 2}};

// The schemas that a value must all fulfil.
using Parts = std::vector<Part>;

class SchemaConverter {
 public:
  explicit SchemaConverter(const Json& root) : root_(root), text_(g_) { index(root, "#"); }

  Grammar convert() {
    g_.root = g_.add_rule("root");
    g_.define(g_.root, value({{&root_}}));
    return std::move(g_);
  }

  static Grammar any_object() {
    const Json root = Json::parse("{\"type\": \"object\"}", "schema");
    return SchemaConverter(root).convert();
  }

 private:
  // ---- Places and complaints

  void index(const Json& json, const std::string& pointer) {
    pointers_[&json] = pointer;
    places_[pointer] = &json;
    if (json.is_object()) {
      for (const auto& [key, member] : json.object()) index(member, pointer + pointer_part(key));
    } else if (json.is_array()) {
      for (size_t i = 0; i < json.array().size(); ++i)
        index(json.array()[i], pointer + "/" + std::to_string(i));
    }
  }

  std::string where(const Json& place) const { return "schema " + pointers_.at(&place) + ": "; }
  [[noreturn]] void invalid(const Json& place, const std::string& why) const {
    fail_argument(where(place) + why);
  }
  [[noreturn]] void unsupported(const Json& place, const std::string& why) const {
    fail_unsupported(where(place) + why);
  }

  const Json* member(const Part& part, std::string_view name) const { return part.schema->find(name); }

  uint32_t count_of(const Json& json) const {
    const auto n = number_of(json);
    if (!n || *n < 0 || *n != std::floor(*n)) invalid(json, "expected a whole number, 0 or more");
    if (*n > kMostCount)
      unsupported(json, "counts above " + std::to_string(kMostCount) + " are not supported");
    return static_cast<uint32_t>(*n);
  }

  void check_kind(const Json& json, bool is_right, const char* expected) const {
    if (!is_right) invalid(json, std::string("expected ") + expected);
  }

  // Every keyword is one that is honoured.
  void check(const Json& schema) {
    if (!checked_.insert(&schema).second) return;
    for (const auto& [key, value] : schema.object()) {
      if (const Keyword* known = keyword(key); !known) {
        if (is_annotation(key)) continue;
        unsupported(value, "the keyword " + json_quoted(key) + " is not supported");
      }
      if (key == "properties" || key == "patternProperties")
        check_kind(value, value.is_object(), "an object");
      if (key == "required" || key == "enum" || key == "allOf" || key == "anyOf" || key == "oneOf" ||
          key == "prefixItems")
        check_kind(value, value.is_array(), "a list");
      if (key == "required")
        for (const Json& name : value.array()) check_kind(name, name.is_string(), "a string");
      if ((key == "enum" || key == "anyOf" || key == "oneOf") && value.array().empty())
        invalid(value, "expected at least one");
      if (key == "pattern" || key == "format" || key == "$ref")
        check_kind(value, value.is_string(), "a string");
      if (key == "uniqueItems" || key == "nullable")
        check_kind(value, get_if<bool>(value) != nullptr, "true or false");
      if (key == "minimum" || key == "maximum") check_kind(value, number_of(value).has_value(), "a number");
      if (key == "exclusiveMinimum" || key == "exclusiveMaximum")
        check_kind(value, number_of(value).has_value() || get_if<bool>(value), "a number");
    }
  }

  // ---- Schemas that hold together

  const Json& resolve(const Json& reference) const {
    std::string_view text = reference.string();
    const Json* id = root_.is_object() ? root_.find("$id") : nullptr;
    if (id && id->is_string() && text.starts_with(id->string())) text.remove_prefix(id->string().size());
    if (text.empty()) return root_;
    if (!text.starts_with('#'))
      unsupported(reference, "only references within the schema (\"#/…\") are supported, not " +
                                 json_quoted(reference.string()));
    std::string pointer;
    for (size_t i = 0; i < text.size(); ++i) {
      unsigned byte = 0;
      if (text[i] == '%' && i + 2 < text.size() &&
          std::from_chars(text.data() + i + 1, text.data() + i + 3, byte, 16).ptr == text.data() + i + 3) {
        pointer += static_cast<char>(byte);
        i += 2;
      } else {
        pointer += text[i];
      }
    }
    const auto found = places_.find(pointer);
    if (found == places_.end()) invalid(reference, "there is nothing at " + json_quoted(pointer));
    return *found->second;
  }

  void refuse_circle(const Json& reference) const {
    std::set<const Json*> seen;
    for (const Json* at = &reference; at;) {
      if (!seen.insert(at).second) invalid(reference, "refers to itself, which says nothing");
      const Json& next = resolve(*at);
      at = next.is_object() ? next.find("$ref") : nullptr;
      if (at && !at->is_string()) at = nullptr;
    }
  }

  // References and allOf followed; sorted, each once. False where no value is valid.
  bool flatten(const Parts& parts, Parts& flat) {
    std::set<Part> found;
    Parts open = parts;
    while (!open.empty()) {
      const Part part = open.back();
      open.pop_back();
      if (const bool* all = get_if<bool>(*part.schema)) {
        if (!*all) return false;
        continue;
      }
      check_kind(*part.schema, part.schema->is_object(), "a schema: an object, true or false");
      check(*part.schema);
      if (!found.insert(part).second) continue;
      if (found.size() > kMostCombined)
        unsupported(*part.schema, "too many schemas hold at one place together");
      if (const Json* reference = member(part, "$ref")) {
        refuse_circle(*reference);
        open.push_back({&resolve(*reference)});
      }
      if (const Json* all = member(part, "allOf"))
        for (const Json& one : all->array()) open.push_back({&one});
    }
    // Of the same schema with alternatives open and chosen, the latter says all.
    for (const Part& part : found) {
      const bool is_covered = std::any_of(found.begin(), found.end(), [&](const Part& other) {
        return other.schema == part.schema && other.done != part.done &&
               (other.done & part.done) == part.done;
      });
      if (!is_covered) flat.push_back(part);
    }
    // In the order of the document, which is that of addresses only by chance.
    std::sort(flat.begin(), flat.end(), [&](const Part& a, const Part& b) {
      const std::string& x = pointers_.at(a.schema);
      const std::string& y = pointers_.at(b.schema);
      return x != y ? x < y : a.done < b.done;
    });
    return true;
  }

  // What the parts' "type", "nullable", "enum" and "const" leave.
  uint32_t stated_types(const Parts& flat) const {
    uint32_t types = kAllTypes;
    for (const Part& part : flat) {
      if (const Json* type = member(part, "type")) {
        uint32_t own = 0;
        const auto add = [&](const Json& name) {
          const uint32_t one = name.is_string() ? type_named(name.string()) : 0;
          if (!one) invalid(name, "expected null, boolean, integer, number, string, array or object");
          own |= one;
        };
        if (type->is_array()) {
          for (const Json& name : type->array()) add(name);
        } else {
          add(*type);
        }
        if (const Json* nullable = member(part, "nullable"); nullable && nullable->boolean()) own |= Null;
        types &= own;
      }
    }
    return types;
  }

  // A schema that names no type, but says something about values of some types, is about these.
  uint32_t types_of(const Parts& flat) const {
    const uint32_t stated = stated_types(flat);
    if (stated != kAllTypes) return stated;
    uint32_t about = 0;
    for (const Part& part : flat) {
      for (const auto& [key, value] : part.schema->object()) {
        if (const Keyword* known = keyword(key)) about |= known->about;
        if (key == "nullable" && value.boolean()) about |= Null;
      }
    }
    return about & ~uint32_t{Null} ? about : kAllTypes;
  }

  std::string name_of(const Parts& flat) const {
    return flat.empty() ? "any value" : pointers_.at(flat[0].schema);
  }

  // ---- Values

  Expression value(const Parts& parts) {
    Parts flat;
    if (!flatten(parts, flat)) return g_.never();
    if (flat.empty()) return any_value(kAnyDepth);
    const auto found = known_.find(flat);
    if (found != known_.end()) return g_.rule(found->second);
    if (known_.size() >= kMostRules) unsupported(*flat[0].schema, "the schema is too large");
    const Nested nested(*this, *flat[0].schema);
    const uint32_t rule = g_.add_rule(name_of(flat));
    known_.emplace(flat, rule);
    g_.define(rule, new_value(flat));
    return g_.rule(rule);
  }

  struct Nested {
    Nested(SchemaConverter& c, const Json& at) : converter(c) {
      if (++c.depth_ > kMostDepth)
        c.unsupported(at, "nested more than " + std::to_string(kMostDepth) + " deep");
    }
    ~Nested() { --converter.depth_; }
    SchemaConverter& converter;
  };

  Expression new_value(const Parts& flat) {
    for (size_t i = 0; i < flat.size(); ++i) {
      for (const auto& [name, bit] : kGroups) {
        const Json* group = member(flat[i], name);
        if (!group || (flat[i].done & bit)) continue;
        std::vector<Parts> branches;
        for (const Json& one : group->array()) {
          Parts branch = flat;
          branch[i].done |= bit;
          branch.push_back({&one});
          branches.push_back(std::move(branch));
        }
        if (name == std::string_view("oneOf")) require_exclusive(*group, branches);
        std::vector<Expression> choices;
        for (const Parts& branch : branches) choices.push_back(value(branch));
        return g_.choice(choices);
      }
    }
    const uint32_t types = types_of(flat);
    if (const auto values = listed(flat)) {
      const Filter filter(*this, flat);
      std::vector<Expression> choices;
      for (const Json* v : *values)
        if (filter.allows(*v)) choices.push_back(literal(*v));
      return g_.choice(choices);
    }
    std::vector<Expression> choices;
    if (types & Null) choices.push_back(g_.text("null"));
    if (types & Boolean) choices.push_back(g_.choice({g_.text("true"), g_.text("false")}));
    if (types & kNumber) choices.push_back(number(flat, (types & Fraction) != 0));
    if (types & String) choices.push_back(text_.quoted(string_body(flat)));
    if (types & Array) choices.push_back(array(flat));
    if (types & Object) choices.push_back(object(flat));
    return g_.choice(choices);
  }

  // A value that nothing is said about; depth: how many arrays and objects may be within one another.
  Expression any_value(int depth) {
    if (any_.empty()) any_.assign(kAnyDepth + 1, kUnlimited);
    uint32_t& rule = any_[static_cast<size_t>(depth)];
    if (rule != kUnlimited) return g_.rule(rule);
    rule = g_.add_rule("any value");
    std::vector<Expression> choices = {g_.text("null"), g_.text("true"), g_.text("false"),
                                       text_.number({}, ""), any_string()};
    if (depth > 0) {
      const Expression inner = any_value(depth - 1);
      choices.push_back(list(inner, 0, kUnlimited));
      choices.push_back(braces(separated(pair(any_string(), inner), 0, kUnlimited)));
    }
    g_.define(rule, g_.choice(choices));
    return g_.rule(rule);
  }

  Expression any_string() { return text_.quoted(g_.repeat(text_.any_char(), 0)); }

  // What "enum" and "const" list, or nothing where there are none.
  std::optional<std::vector<const Json*>> listed(const Parts& flat) const {
    std::optional<std::vector<const Json*>> values;
    const auto keep = [&](const std::vector<const Json*>& own) {
      if (!values) {
        values = own;
        return;
      }
      std::erase_if(*values, [&](const Json* v) {
        return std::none_of(own.begin(), own.end(), [&](const Json* o) { return equal(*o, *v); });
      });
    };
    for (const Part& part : flat) {
      if (const Json* one = member(part, "const")) keep({one});
      if (const Json* list = member(part, "enum")) {
        std::vector<const Json*> own;
        for (const Json& v : list->array()) own.push_back(&v);
        keep(own);
      }
    }
    return values;
  }

  // Whether a listed value is valid under what else holds.
  class Filter {
   public:
    Filter(SchemaConverter& converter, const Parts& flat)
        : converter_(converter),
          flat_(flat),
          types_(converter.stated_types(flat)),
          about_(converter.about_types(flat)),
          range_(converter.range(flat)) {
      if (about_ & String) strings_ = automaton_of(converter.g_, converter.string_body(flat));
    }

    bool allows(const Json& v) const {
      const uint32_t type = type_of(v);
      if (!(types_ & type)) return false;
      if (const auto n = number_of(v)) {
        if (!range_.contains(*n)) return false;
        for (const Part& part : flat_) {
          const Json* factor = converter_.member(part, "multipleOf");
          if (factor && std::fmod(*n, converter_.factor_of(*factor)) != 0) return false;
        }
      }
      if (v.is_string() && (about_ & String)) return strings_.matches(escaped(v.string()));
      if ((v.is_array() || v.is_object()) && (about_ & type))
        converter_.unsupported(
            v, "a listed array or object beside other keywords about arrays or objects is not supported");
      return true;
    }

   private:
    SchemaConverter& converter_;
    const Parts& flat_;
    uint32_t types_, about_;
    NumberRange range_;
    Dfa strings_;
  };

  uint32_t about_types(const Parts& flat) const {
    uint32_t about = 0;
    for (const Part& part : flat) {
      for (const auto& entry : part.schema->object())
        if (const Keyword* known = keyword(entry.first)) about |= known->about;
    }
    return about;
  }

  Expression literal(const Json& v) {
    if (v.is_null()) return g_.text("null");
    if (const bool* b = get_if<bool>(v)) return g_.text(*b ? "true" : "false");
    if (v.is_string()) return g_.text("\"" + escaped(v.string()) + "\"");
    if (const auto n = number_of(v)) {
      char buffer[32];
      const auto* integer = get_if<int64_t>(v);
      const auto end = integer ? std::to_chars(buffer, buffer + sizeof buffer, *integer)
                               : std::to_chars(buffer, buffer + sizeof buffer, *n);
      return g_.text({buffer, static_cast<size_t>(end.ptr - buffer)});
    }
    std::vector<Expression> parts;
    const auto separate = [&] {
      if (parts.empty()) return;
      parts.push_back(g_.text(","));
      parts.push_back(text_.blank());
    };
    if (v.is_array()) {
      for (const Json& one : v.array()) {
        separate();
        parts.push_back(literal(one));
      }
      return brackets(g_.sequence(parts));
    }
    for (const auto& [key, one] : v.object()) {
      separate();
      parts.push_back(pair(g_.text("\"" + escaped(key) + "\""), literal(one)));
    }
    return braces(g_.sequence(parts));
  }

  // ---- Numbers

  NumberRange range(const Parts& flat) const {
    NumberRange out;
    const auto low = [&](double v, bool excluded) {
      if (!out.low || v > out.low->value || (v == out.low->value && excluded)) out.low = {v, excluded};
    };
    const auto high = [&](double v, bool excluded) {
      if (!out.high || v < out.high->value || (v == out.high->value && excluded)) out.high = {v, excluded};
    };
    // Draft 4 has true and false for exclusive….
    const auto read = [&](const Part& part, const char* name, const char* exclusive, const auto& narrow) {
      const Json* e = member(part, exclusive);
      const bool* flag = e ? get_if<bool>(*e) : nullptr;
      if (const Json* bound = member(part, name)) narrow(*number_of(*bound), flag && *flag);
      if (e && !flag) narrow(*number_of(*e), true);
    };
    for (const Part& part : flat) {
      read(part, "minimum", "exclusiveMinimum", low);
      read(part, "maximum", "exclusiveMaximum", high);
    }
    return out;
  }

  double factor_of(const Json& json) const {
    const auto n = number_of(json);
    if (!n || *n <= 0) invalid(json, "expected a number above 0");
    if (*n != std::floor(*n) || *n > static_cast<double>(kLargestFactor))
      unsupported(json, "multipleOf is supported for whole numbers up to " + std::to_string(kLargestFactor));
    return *n;
  }

  Expression number(const Parts& flat, bool with_fractions) {
    const NumberRange bounds = range(flat);
    std::optional<Expression> multiples;
    std::string place = "schema: ";
    for (const Part& part : flat) {
      for (const char* name : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})
        if (const Json* bound = member(part, name)) place = where(*bound);
      if (const Json* factor = member(part, "multipleOf")) {
        const Expression own = text_.multiples(static_cast<int64_t>(factor_of(*factor)));
        multiples = multiples ? g_.both(*multiples, own) : own;
      }
    }
    const Expression e =
        with_fractions && !multiples ? text_.number(bounds, place) : text_.integer(bounds, place);
    return multiples ? g_.both(e, *multiples) : e;
  }

  // ---- Strings

  // What stands between the quotes.
  Expression string_body(const Parts& flat) {
    uint32_t least = 0;
    uint32_t most = kUnlimited;
    std::optional<Expression> body;
    const auto add = [&](std::string_view pattern, const Json& place) {
      const Expression own = parse_pattern(g_, text_, pattern, where(place));
      body = body ? g_.both(*body, own) : own;
    };
    for (const Part& part : flat) {
      if (const Json* n = member(part, "minLength")) least = std::max(least, count_of(*n));
      if (const Json* n = member(part, "maxLength")) most = std::min(most, count_of(*n));
      if (const Json* pattern = member(part, "pattern")) add(pattern->string(), *pattern);
      if (const Json* format = member(part, "format")) {
        // Formats of numbers (OpenAPI) say nothing that a type does not.
        static constexpr std::string_view kOfNumbers[] = {"int32", "int64", "float", "double"};
        const bool of_numbers =
            std::find(std::begin(kOfNumbers), std::end(kOfNumbers), format->string()) != std::end(kOfNumbers);
        const char* pattern = pattern_of_format(format->string());
        if (!pattern && !of_numbers)
          unsupported(*format, "the format " + json_quoted(format->string()) + " is not supported");
        if (pattern) add(pattern, *format);
      }
    }
    if (least > most) return g_.never();
    if (!body) return g_.repeat(text_.any_char(), least, most);
    if (least == 0 && most == kUnlimited) return *body;
    return g_.both(*body, g_.repeat(text_.one_way_char(), least, most));
  }

  // ---- Arrays

  Expression brackets(Expression inner) {
    return g_.sequence({g_.text("["), text_.blank(), inner, text_.blank(), g_.text("]")});
  }
  Expression braces(Expression inner) {
    return g_.sequence({g_.text("{"), text_.blank(), inner, text_.blank(), g_.text("}")});
  }
  Expression comma() { return g_.sequence({g_.text(","), text_.blank()}); }

  // part (, part)*
  Expression separated(Expression part, uint32_t least, uint32_t most) {
    if (most == 0) return g_.empty();
    const Expression more =
        g_.repeat(g_.sequence({comma(), part}), least ? least - 1 : 0, most == kUnlimited ? most : most - 1);
    const Expression all = g_.sequence({part, more});
    return least ? all : g_.optional(all);
  }

  Expression list(Expression part, uint32_t least, uint32_t most) {
    return brackets(separated(part, least, most));
  }

  Expression array(const Parts& flat) {
    uint32_t least = 0;
    uint32_t most = kUnlimited;
    size_t first = 0;  // how many elements have schemas of their own
    bool is_open = false;
    for (const Part& part : flat) {
      if (const Json* n = member(part, "minItems")) least = std::max(least, count_of(*n));
      if (const Json* n = member(part, "maxItems")) most = std::min(most, count_of(*n));
      if (const Json* own = prefix(part)) first = std::max(first, own->array().size());
      if (first > kMostProperties)
        unsupported(*part.schema, "more than " + std::to_string(kMostProperties) + " prefix items");
      is_open |= rest(part) != nullptr;
    }
    for (const Part& part : flat) {
      const Json* unique = member(part, "uniqueItems");
      if (unique && unique->boolean() && most > 1)
        unsupported(*unique, "uniqueItems is not supported: a grammar cannot remember the items");
    }
    if (least > most) return g_.never();
    const auto element = [&](size_t index) {
      Parts parts;
      for (const Part& part : flat) {
        const Json* own = prefix(part);
        if (own && index < own->array().size()) {
          parts.push_back({&own->array()[index]});
        } else if (const Json* others = rest(part)) {
          parts.push_back({others});
        }
      }
      return value(parts);
    };
    // Without a word about further items there are none behind those with schemas of their own.
    const auto n = static_cast<uint32_t>(first);
    if (first && !is_open) most = std::min(most, n);
    if (least > most) return g_.never();
    if (most == 0) return brackets(g_.empty());
    if (!first) return list(element(0), least, most);
    Expression tail = g_.empty();
    if (most > n)
      tail = g_.repeat(g_.sequence({comma(), element(n)}), least > n ? least - n : 0,
                       most == kUnlimited ? most : most - n);
    for (uint32_t i = std::min(n, most); i-- > 0;) {
      tail = i ? g_.sequence({comma(), element(i), tail}) : g_.sequence({element(i), tail});
      if (i >= least) tail = g_.optional(tail);
      tail = link(tail, i);
    }
    return brackets(tail);
  }

  // The schemas of the first items; older drafts write them as a list of "items".
  const Json* prefix(const Part& part) const {
    const Json* own = member(part, "prefixItems");
    const Json* items = member(part, "items");
    return own ? own : items && items->is_array() ? items : nullptr;
  }
  // The schema of all further items.
  const Json* rest(const Part& part) const {
    const Json* items = member(part, "items");
    return items && items->is_array() ? member(part, "additionalItems") : items;
  }

  // ---- Objects

  struct KeyPattern {
    const Json* place;  // its schema
    const Part* part;
    Expression body;
    Dfa automaton;
  };

  Expression pair(Expression key, Expression value) {
    return g_.sequence({key, g_.text(":"), g_.optional(g_.text(" ")), value});
  }

  std::vector<KeyPattern> key_patterns(const Parts& flat) {
    std::vector<KeyPattern> out;
    for (const Part& part : flat) {
      const Json* patterns = member(part, "patternProperties");
      if (!patterns) continue;
      for (const auto& [pattern, schema] : patterns->object()) {
        const Expression body = parse_pattern(g_, text_, pattern, where(schema));
        out.push_back({&schema, &part, body, automaton_of(g_, body)});
      }
    }
    return out;
  }

  // Names that are spoken of, in the order of the schema.
  std::vector<std::string> names_of(const Parts& flat) const {
    std::vector<std::string> names;
    std::set<std::string> seen;
    const auto add = [&](const std::string& name) {
      if (seen.insert(name).second) names.push_back(name);
    };
    for (const Part& part : flat) {
      if (const Json* properties = member(part, "properties"))
        for (const auto& entry : properties->object()) add(entry.first);
    }
    for (const Part& part : flat) {
      if (const Json* required = member(part, "required"))
        for (const Json& name : required->array()) add(name.string());
    }
    return names;
  }

  std::set<std::string> required_of(const Parts& flat) const {
    std::set<std::string> required;
    for (const Part& part : flat) {
      if (const Json* list = member(part, "required"))
        for (const Json& name : list->array()) required.insert(name.string());
    }
    return required;
  }

  // All that a value under this name must fulfil.
  Parts property(const Parts& flat, const std::vector<KeyPattern>& patterns, const std::string& name) const {
    Parts parts;
    for (const Part& part : flat) {
      bool is_known = false;
      const Json* properties = member(part, "properties");
      if (const Json* own = properties ? properties->find(name) : nullptr) {
        parts.push_back({own});
        is_known = true;
      }
      for (const KeyPattern& p : patterns) {
        if (p.part != &part || !p.automaton.matches(escaped(name))) continue;
        parts.push_back({p.place});
        is_known = true;
      }
      const Json* additional = member(part, "additionalProperties");
      if (!is_known && additional) parts.push_back({additional});
    }
    return parts;
  }

  // Whether names that no one speaks of may occur.
  bool is_open(const Parts& flat) const {
    bool is_described = false;
    bool is_said = false;
    for (const Part& part : flat) {
      is_described |= member(part, "properties") || member(part, "patternProperties");
      is_said |= member(part, "additionalProperties") != nullptr;
    }
    return is_said || !is_described;
  }

  Expression object(const Parts& flat) {
    const std::vector<std::string> names = names_of(flat);
    if (names.size() > kMostProperties)
      unsupported(*flat[0].schema, "more than " + std::to_string(kMostProperties) + " properties");
    const std::set<std::string> required = required_of(flat);
    const std::vector<KeyPattern> patterns = key_patterns(flat);

    uint32_t least = 0;
    uint32_t most = kUnlimited;
    const Json* least_place = nullptr;
    std::optional<Expression> allowed_names;
    for (const Part& part : flat) {
      if (const Json* n = member(part, "minProperties"); n && count_of(*n) > least) {
        least = count_of(*n);
        least_place = n;
      }
      if (const Json* n = member(part, "maxProperties")) most = std::min(most, count_of(*n));
      if (const Json* schema = member(part, "propertyNames")) {
        const Expression own = name_body(*schema);
        allowed_names = allowed_names ? g_.both(*allowed_names, own) : own;
      }
    }
    if (least > most) return g_.never();

    const std::optional<Dfa> names_allowed =
        allowed_names ? std::optional(automaton_of(g_, *allowed_names)) : std::nullopt;

    struct Property {
      Expression pair;
      bool is_required;
    };
    std::vector<Property> properties;
    for (const std::string& name : names) {
      const bool is_required = required.contains(name);
      if (names_allowed && !names_allowed->matches(escaped(name))) {
        if (is_required) return g_.never();
        continue;
      }
      // In a closed object a required name without a schema may have any value.
      const Parts parts = property(flat, patterns, name);
      properties.push_back({pair(g_.text("\"" + escaped(name) + "\""), value(parts)), is_required});
    }
    const std::optional<Expression> extra = extra_pair(flat, names, patterns, allowed_names);
    if (extra && least > properties.size() + 1)
      unsupported(*least_place,
                  "minProperties beyond one more than the named properties is not supported: a grammar "
                  "cannot keep names apart");

    // rest(i, n): what follows when n properties are there and the first i names are through. Beyond `enough`
    // the number makes no difference.
    const auto all = static_cast<uint32_t>(properties.size());
    const uint32_t enough = std::max({uint32_t{1}, least, most == kUnlimited ? 0 : std::min(most, all)});
    std::vector<std::vector<Expression>> rest(all + 1);
    for (uint32_t i = all + 1; i-- > 0;) {
      for (uint32_t n = 0; n <= std::min(i, enough); ++n) {
        if (i == all) {
          rest[i].push_back(extras(extra, n, least, most));
          continue;
        }
        const uint32_t more = std::min(n + 1, enough);
        const Expression here = n ? g_.sequence({comma(), properties[i].pair}) : properties[i].pair;
        const bool fits = most == kUnlimited || n < most;
        std::vector<Expression> choices;
        if (fits && more == n && !properties[i].is_required) {
          choices.push_back(g_.sequence({g_.optional(here), rest[i + 1][n]}));
        } else {
          if (fits) choices.push_back(g_.sequence({here, rest[i + 1][more]}));
          if (!properties[i].is_required) choices.push_back(rest[i + 1][n]);
        }
        rest[i].push_back(link(g_.choice(choices), i));
      }
      if (g_.size() > Grammar::kMostExpressions / 2) unsupported(*flat[0].schema, "the schema is too large");
    }
    return braces(rest[0][0]);
  }

  // The rest of a long chain of optional parts is a rule now and then: one automaton of all would know every
  // part from every other part, which is too much.
  Expression link(Expression rest, size_t number) {
    if (number == 0 || number % 8 != 0) return rest;
    const uint32_t rule = g_.add_rule("further parts");
    g_.define(rule, rest);
    return g_.rule(rule);
  }

  // Further properties, n being there already.
  Expression extras(std::optional<Expression> extra, uint32_t n, uint32_t least, uint32_t most) {
    const uint32_t missing = least > n ? least - n : 0;
    if (!extra || most == n) return missing ? g_.never() : g_.empty();
    // Two further names may be the same, so only one of them counts for sure.
    if (missing > 1) return g_.never();
    const uint32_t room = most == kUnlimited ? most : most - n;
    return n ? g_.repeat(g_.sequence({comma(), *extra}), missing, room) : separated(*extra, missing, room);
  }

  // The names that a "propertyNames" allows.
  Expression name_body(const Json& schema) {
    Parts flat;
    if (!flatten({{&schema}}, flat)) return g_.never();
    for (const Part& part : flat) {
      for (const auto& [key, v] : part.schema->object()) {
        const Keyword* known = keyword(key);
        if (known && known->about != String && key != "type" && key != "$ref" && key != "allOf" &&
            key != "enum" && key != "const")
          unsupported(v, "the keyword " + json_quoted(key) + " is not supported within propertyNames");
      }
    }
    if (!(stated_types(flat) & String)) return g_.never();
    if (const auto values = listed(flat)) {
      const Filter filter(*this, flat);
      std::vector<Expression> choices;
      for (const Json* v : *values)
        if (v->is_string() && filter.allows(*v)) choices.push_back(g_.text(escaped(v->string())));
      return g_.choice(choices);
    }
    // In one way of writing only, so that names can be compared.
    return g_.both(string_body(flat), g_.repeat(text_.one_way_char(), 0));
  }

  // Name and value of a property that has no schema of its own name, or nothing.
  std::optional<Expression> extra_pair(const Parts& flat, const std::vector<std::string>& names,
                                       const std::vector<KeyPattern>& patterns,
                                       std::optional<Expression> allowed_names) {
    std::vector<Expression> taken;
    for (const std::string& name : names) taken.push_back(g_.text(escaped(name)));
    const auto key = [&](Expression body) {
      if (allowed_names) body = g_.both(body, *allowed_names);
      return text_.quoted(taken.empty() ? body : g_.without(body, g_.choice(taken)));
    };
    std::vector<Expression> choices;
    // Names that exactly one pattern matches, for each of them.
    for (const KeyPattern& p : patterns) {
      Expression body = p.body;
      Parts parts = {{p.place}};
      for (const KeyPattern& other : patterns)
        if (&other != &p) body = g_.without(body, other.body);
      for (const Part& part : flat) {
        const Json* additional = member(part, "additionalProperties");
        if (&part != p.part && additional) parts.push_back({additional});
      }
      choices.push_back(pair(key(body), value(parts)));
    }
    if (is_open(flat)) {
      Parts parts;
      for (const Part& part : flat) {
        if (const Json* additional = member(part, "additionalProperties")) parts.push_back({additional});
      }
      const bool is_free = names.empty() && patterns.empty() && !allowed_names;
      Expression body = is_free ? g_.repeat(text_.any_char(), 0) : g_.repeat(text_.one_way_char(), 0);
      for (const KeyPattern& p : patterns) body = g_.without(body, p.body);
      Parts flat_parts;
      if (flatten(parts, flat_parts)) choices.push_back(pair(key(body), value(parts)));
    }
    if (choices.empty()) return std::nullopt;
    return g_.choice(choices);
  }

  // ---- oneOf: exactly one

  // What one branch writes must not be valid under another.
  void require_exclusive(const Json& group, const std::vector<Parts>& branches) {
    for (size_t i = 0; i < branches.size(); ++i) {
      for (size_t j = 0; j < branches.size(); ++j) {
        if (i == j || excludes(branches[i], branches[j], 0)) continue;
        unsupported(group, "a value of alternative " + std::to_string(i) +
                               " may also be one of alternative " + std::to_string(j) +
                               ", which oneOf forbids; use anyOf");
      }
    }
  }

  // Whether no value that is written for `a` is valid under `b`. True only where that is certain.
  bool excludes(const Parts& a_parts, const Parts& b_parts, int depth) {
    Parts a, b;
    if (!flatten(a_parts, a) || !flatten(b_parts, b)) return true;
    if (depth > 8) return false;
    // Each alternative of `a` for itself; those of `b` would only make it narrower.
    for (size_t i = 0; i < a.size(); ++i) {
      for (const auto& binding : kGroups) {
        const uint32_t bit = binding.second;  // a variable, which Clang 14 lets the closure below capture
        const Json* group = member(a[i], binding.first);
        if (!group || (a[i].done & bit)) continue;
        return std::all_of(group->array().begin(), group->array().end(), [&](const Json& one) {
          Parts branch = a;
          branch[i].done |= bit;
          branch.push_back({&one});
          return excludes(branch, b_parts, depth + 1);
        });
      }
    }
    const uint32_t shared = (a.empty() ? kAllTypes : types_of(a)) & stated_types(b);
    if (!shared) return true;
    const auto a_values = listed(a);
    if (a_values)
      return std::all_of(a_values->begin(), a_values->end(),
                         [&](const Json* v) { return surely_forbids(b, *v); });
    if (const auto b_values = listed(b)) {
      return std::all_of(b_values->begin(), b_values->end(), [&](const Json* v) {
        return surely_forbids(a, *v) || !(types_of(a) & type_of(*v));
      });
    }
    if (shared & (Null | Boolean)) return false;
    if (shared & kNumber) {
      const NumberRange x = range(a);
      const NumberRange y = range(b);
      const auto before = [](const std::optional<Bound>& high, const std::optional<Bound>& low) {
        return high && low &&
               (high->value < low->value || (high->value == low->value && (high->excluded || low->excluded)));
      };
      if (!before(x.high, y.low) && !before(y.high, x.low)) return false;
    }
    if (shared & String) {
      if (!has_no_common_string(a, b)) return false;
    }
    if (shared & Array) return false;
    return !(shared & Object) || excludes_objects(a, b, depth);
  }

  bool has_no_common_string(const Parts& a, const Parts& b) {
    if (!(about_types(a) & String) || !(about_types(b) & String)) return false;
    const Dfa common = both(automaton_of(g_, g_.both(string_body(a), g_.repeat(text_.one_way_char(), 0))),
                            automaton_of(g_, string_body(b)));
    // Nothing but a start that accepts nothing is left of an empty automaton. Strings with a \u escape are no
    // patterns' or have the lengths that the others have.
    return common.nodes.size() == 1 && !common.nodes[0].accepts;
  }

  bool surely_forbids(const Parts& flat, const Json& v) {
    const uint32_t type = type_of(v);
    if (!(stated_types(flat) & type)) return true;
    if (const auto values = listed(flat);
        values && std::none_of(values->begin(), values->end(), [&](const Json* o) { return equal(*o, v); }))
      return true;
    return !v.is_array() && !v.is_object() && !Filter(*this, flat).allows(v);
  }

  bool excludes_objects(const Parts& a, const Parts& b, int depth) {
    const std::vector<KeyPattern> a_patterns = key_patterns(a);
    const std::vector<KeyPattern> b_patterns = key_patterns(b);
    const std::vector<std::string> a_names = names_of(a);
    const std::set<std::string> a_required = required_of(a);
    const std::set<std::string> b_required = required_of(b);
    const auto is_a_name = [&](const std::string& name) {
      return std::find(a_names.begin(), a_names.end(), name) != a_names.end();
    };
    for (const std::string& name : b_required) {
      // `a` never has what `b` needs, or only with a value that `b` does not take.
      if (!is_a_name(name) && !is_open(a) && a_patterns.empty()) return true;
      if (is_a_name(name) &&
          excludes(property(a, a_patterns, name), property(b, b_patterns, name), depth + 1))
        return true;
    }
    // `a` always has what `b` takes with other values only, or not at all.
    return std::any_of(a_required.begin(), a_required.end(), [&](const std::string& name) {
      return excludes(property(a, a_patterns, name), property(b, b_patterns, name), depth + 1);
    });
  }

  const Json& root_;
  Grammar g_;
  JsonText text_;
  std::unordered_map<const Json*, std::string> pointers_;
  std::unordered_map<std::string, const Json*> places_;
  std::set<const Json*> checked_;
  std::map<Parts, uint32_t> known_;  // rules
  std::vector<uint32_t> any_;        // rules, by depth
  int depth_ = 0;
};

}  // namespace

Grammar parse_json_schema(std::string_view schema) {
  if (schema.size() > kMostBytes) {
    fail_argument("the schema has " + std::to_string(schema.size()) + " bytes, at most " +
                  std::to_string(kMostBytes) + " are allowed");
  }
  const Json root = Json::parse(schema, "schema");
  return SchemaConverter(root).convert();
}

Grammar json_object() {
  return SchemaConverter::any_object();
}

}  // namespace mllm::grammar
