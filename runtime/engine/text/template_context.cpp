#include "text/template_context.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "text/template_strings.h"

namespace mllm::jinja {
namespace {

constexpr int kMaxDepth = 100;  // of lists and dicts in each other

std::string type_of(const Value& v) {
  return std::string("'") + v.type_name() + "'";
}

const char* sign_of(Operator op) {
  switch (op) {
    case Operator::Add:
      return "+";
    case Operator::Subtract:
      return "-";
    case Operator::Multiply:
      return "*";
    case Operator::Divide:
      return "/";
    case Operator::FloorDivide:
      return "//";
    case Operator::Modulo:
      return "%";
    case Operator::Power:
      return "**";
    case Operator::Equal:
      return "==";
    case Operator::NotEqual:
      return "!=";
    case Operator::Less:
      return "<";
    case Operator::LessEqual:
      return "<=";
    case Operator::Greater:
      return ">";
    case Operator::GreaterEqual:
      return ">=";
    case Operator::In:
      return "in";
    case Operator::NotIn:
      return "not in";
  }
  return "?";
}

// Python's: a start or stop of a slice of `length` items, brought into range.
int64_t slice_bound(int64_t bound, int64_t length, int64_t low, int64_t high) {
  if (bound < 0) bound = bound < -length ? low : bound + length;
  return std::clamp(bound, low, high);
}

}  // namespace

std::unique_ptr<Value> Object::attribute(Context&, const std::string&) {
  return nullptr;
}

Value Object::call(Context& context, CallArguments&) {
  context.fail(std::string("'") + type_name() + "' object is not callable");
}

std::unique_ptr<Value> Namespace::attribute(Context&, const std::string& name) {
  const Value* found = attributes.find(std::string_view(name));
  return found ? std::make_unique<Value>(*found) : nullptr;
}

void Context::fail(const std::string& why) const {
  std::string one_line = why;
  std::ranges::replace(one_line, '\n', ' ');
  fail_argument("chat template: line " + std::to_string(line) + ": " + one_line);
}

void Context::fail_undefined(const Value& v) const {
  fail(v.missing());
}

void Context::fail_unsupported_here(const std::string& what) const {
  fail_unsupported("chat template: line " + std::to_string(line) + ": " + what + " is not supported");
}

void Context::fail_steps() const {
  fail("the template takes too long for these messages; it may never end");
}

void Context::check_size(size_t bytes) {
  if (bytes > limits_.output) {
    fail("a text becomes longer than " + std::to_string(limits_.output >> 20) + " MiB");
  }
  charge(1 + static_cast<int64_t>(bytes / 8));
}

void Context::check_depth(int depth) const {
  if (depth > kMaxDepth) fail("lists are nested more than " + std::to_string(kMaxDepth) + " deep");
}

Value Context::text(std::string bytes, bool is_markup) {
  check_size(bytes.size());
  return Value::text(std::move(bytes), is_markup);
}

Value Context::list(std::vector<Value> items, Sequence::Kind kind) {
  charge(1 + 4 * static_cast<int64_t>(items.size()));
  auto out = std::make_shared<Sequence>();
  out->kind = kind;
  for (const Value& v : items) out->depth = std::max(out->depth, 1 + v.depth());
  check_depth(out->depth);
  out->items = std::move(items);
  return out;
}

Value Context::texts(const std::vector<std::string>& items) {
  std::vector<Value> out;
  for (const std::string& one : items) out.push_back(text(one));
  return list(std::move(out));
}

Value Context::pair(Value first, Value second) {
  std::vector<Value> both;
  both.push_back(std::move(first));
  both.push_back(std::move(second));
  return list(std::move(both), Sequence::Kind::Tuple);
}

Value Context::view(std::vector<Value> items, const char* kind) {
  Value out = list(std::move(items), Sequence::Kind::View);
  out.sequence()->view = kind;
  return out;
}

void Context::set(Dict& dict, Value key, Value value) {
  if (!key.is_hashable()) fail("unhashable type: " + type_of(key));
  charge(8 + (key.is_text() ? 0 : static_cast<int64_t>(dict.entries.size())));
  dict.set(std::move(key), std::move(value));
  check_depth(dict.depth);
}

// ---- Text forms

std::string Context::str(const Value& v) {
  std::string out;
  append_str(out, v);
  return out;
}

void Context::append_str(std::string& out, const Value& v) {
  if (v.is_text()) {
    check_size(v.str().size());
    out += v.str();
  } else if (!v.is_undefined()) {
    append_repr(out, v);
  }
}

void Context::append_repr(std::string& out, const Value& v) {
  const Level level(*this);
  charge(1);
  if (v.is_undefined()) {
    out += "Undefined";
  } else if (v.is_none()) {
    out += "None";
  } else if (v.is_bool()) {
    out += v.boolean() ? "True" : "False";
  } else if (v.is_int()) {
    out += std::to_string(v.integer());
  } else if (v.is_float()) {
    out += repr(v.number());
  } else if (v.is_text()) {
    check_size(v.str().size());
    out += v.is_markup() ? "Markup(" + repr(v.str()) + ")" : repr(v.str());
  } else if (const Sequence* s = v.sequence()) {
    if (s->kind == Sequence::Kind::Range) {
      out += "range(" + std::to_string(s->start) + ", " + std::to_string(s->stop) +
             (s->step == 1 ? "" : ", " + std::to_string(s->step)) + ")";
      return;
    }
    if (s->kind == Sequence::Kind::Generator) {
      out += "<generator object>";
      return;
    }
    const bool is_tuple = s->kind == Sequence::Kind::Tuple;
    if (s->kind == Sequence::Kind::View) out += std::string(s->view) + "(";
    out += is_tuple ? '(' : '[';
    for (size_t i = 0; i < s->items.size(); ++i) {
      if (i) out += ", ";
      append_repr(out, s->items[i]);
    }
    if (is_tuple && s->items.size() == 1) out += ',';
    out += is_tuple ? ')' : ']';
    if (s->kind == Sequence::Kind::View) out += ')';
  } else {
    const auto* space = dynamic_cast<Namespace*>(v.object());
    const Dict* d = space ? &space->attributes : v.dict();
    if (!d) {
      out += std::string("<") + v.type_name() + ">";
      return;
    }
    out += space ? "<Namespace {" : "{";
    for (size_t i = 0; i < d->entries.size(); ++i) {
      if (i) out += ", ";
      append_repr(out, d->entries[i].first);
      out += ": ";
      append_repr(out, d->entries[i].second);
    }
    out += space ? "}>" : "}";
  }
  if (out.size() > limits_.output) check_size(out.size());
}

std::string Context::json(const Value& v, const JsonStyle& style) {
  std::string out;
  append_json(out, v, style, 0);
  return out;
}

void Context::append_json(std::string& out, const Value& v, const JsonStyle& style, int depth) {
  const Level level(*this);
  charge(1);
  const auto number = [](double d) -> std::string {
    return std::isnan(d) ? "NaN" : std::isinf(d) ? (d < 0 ? "-Infinity" : "Infinity") : repr(d);
  };
  const auto break_line = [&](int to) {
    if (!style.indent) return;
    out += '\n';
    check_size(style.indent->size() * static_cast<size_t>(to));
    for (int i = 0; i < to; ++i) out += *style.indent;
  };
  if (v.is_none()) {
    out += "null";
  } else if (v.is_bool()) {
    out += v.boolean() ? "true" : "false";
  } else if (v.is_int()) {
    out += std::to_string(v.integer());
  } else if (v.is_float()) {
    out += number(v.number());
  } else if (v.is_text()) {
    check_size(v.str().size());
    out += json_string(v.str(), style.ascii_only);
  } else if (const Sequence* s = v.sequence();
             s && (s->kind == Sequence::Kind::List || s->kind == Sequence::Kind::Tuple)) {
    if (s->items.empty()) {
      out += "[]";
      return;
    }
    out += '[';
    for (size_t i = 0; i < s->items.size(); ++i) {
      if (i) out += style.item_separator;
      break_line(depth + 1);
      append_json(out, s->items[i], style, depth + 1);
    }
    break_line(depth);
    out += ']';
  } else if (const Dict* d = v.dict()) {
    if (d->entries.empty()) {
      out += "{}";
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : d->entries) entries.push_back(&entry);
    if (style.sort_keys) {
      std::stable_sort(entries.begin(), entries.end(),
                       [this](const auto* a, const auto* b) { return less(a->first, b->first); });
    }
    out += '{';
    bool is_first = true;
    for (const auto* entry : entries) {
      const Value& key = entry->first;
      if (!is_first) out += style.item_separator;
      is_first = false;
      break_line(depth + 1);
      if (key.is_text()) {
        check_size(key.str().size());
        out += json_string(key.str(), style.ascii_only);
      } else if (key.is_none() || key.is_bool()) {
        out += key.is_none() ? "\"null\"" : key.boolean() ? "\"true\"" : "\"false\"";
      } else if (key.is_int()) {
        out += '"' + std::to_string(key.integer()) + '"';
      } else if (key.is_float()) {
        out += '"' + number(key.number()) + '"';
      } else {
        fail("keys of JSON must be text or numbers, not " + type_of(key));
      }
      out += style.key_separator;
      append_json(out, entry->second, style, depth + 1);
    }
    break_line(depth);
    out += '}';
  } else if (v.is_undefined()) {
    fail("JSON cannot hold what is undefined: " + v.missing());
  } else {
    fail("an object of type " + type_of(v) + " cannot be written as JSON");
  }
  if (out.size() > limits_.output) check_size(out.size());
}

// ---- Operators

bool Context::equal(const Value& a, const Value& b) {
  const Level level(*this);
  charge(1);
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.number() == b.number() : a.integer() == b.integer();
  }
  if (a.is_text() && b.is_text()) return a.str() == b.str();
  if (a.is_undefined() && b.is_undefined()) return true;
  const Sequence* s = a.sequence();
  const Sequence* t = b.sequence();
  if (s && t) {
    if (s == t) return true;
    if (s->kind != t->kind || s->items.size() != t->items.size() || !s->has_items()) return false;
    return std::equal(s->items.begin(), s->items.end(), t->items.begin(),
                      [this](const Value& x, const Value& y) { return equal(x, y); });
  }
  const Dict* d = a.dict();
  const Dict* e = b.dict();
  if (d && e) {
    if (d == e) return true;
    return d->entries.size() == e->entries.size() && std::ranges::all_of(d->entries, [&](const auto& entry) {
             const Value* other = e->find(entry.first);
             return other && equal(entry.second, *other);
           });
  }
  return is_same(a, b);
}

bool Context::less(const Value& a, const Value& b, const char* sign) {
  const Level level(*this);
  charge(1);
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.number() < b.number() : a.integer() < b.integer();
  }
  if (a.is_text() && b.is_text()) return a.str() < b.str();  // UTF-8 sorts as code points do
  const Sequence* s = a.sequence();
  const Sequence* t = b.sequence();
  if (s && t && s->kind == t->kind && (s->kind == Sequence::Kind::List || s->kind == Sequence::Kind::Tuple)) {
    const size_t n = std::min(s->items.size(), t->items.size());
    for (size_t i = 0; i < n; ++i) {
      if (!equal(s->items[i], t->items[i])) return less(s->items[i], t->items[i], sign);
    }
    return s->items.size() < t->items.size();
  }
  fail(std::string("'") + sign + "' is not possible between " + type_of(a) + " and " + type_of(b));
}

bool Context::contains(const Value& container, const Value& item) {
  if (container.is_text()) {
    if (!item.is_text()) fail("only text can be in text, not " + type_of(item));
    charge(1 + static_cast<int64_t>(container.str().size() / 8));
    return container.str().find(item.str()) != std::string::npos;
  }
  if (const Dict* d = container.dict()) {
    if (!item.is_hashable()) fail("unhashable type: " + type_of(item));
    charge(1 + (item.is_text() ? 0 : static_cast<int64_t>(d->entries.size())));
    return d->find(item) != nullptr;
  }
  if (container.is_undefined()) return false;
  Sequence* s = container.sequence();
  if (!s) fail("argument of type " + type_of(container) + " is not iterable");
  const bool is_generator = s->kind == Sequence::Kind::Generator;
  for (size_t i = is_generator ? s->taken : 0; i < s->items.size(); ++i) {
    if (is_generator) s->taken = i + 1;
    if (equal(s->items[i], item)) return true;
  }
  return false;
}

bool Context::compare(Operator op, const Value& a, const Value& b) {
  switch (op) {
    case Operator::Equal:
      return equal(a, b);
    case Operator::NotEqual:
      return !equal(a, b);
    case Operator::Less:
      return less(a, b);
    case Operator::Greater:
      return less(b, a, ">");
    case Operator::LessEqual:
    case Operator::GreaterEqual: {
      if (a.is_number() && b.is_number() && (std::isnan(a.number()) || std::isnan(b.number()))) return false;
      return op == Operator::LessEqual ? !less(b, a, "<=") : !less(a, b, ">=");
    }
    case Operator::In:
      return contains(b, a);
    case Operator::NotIn:
      return !contains(b, a);
    default:
      fail_internal("not a comparison");
  }
}

Value Context::binary(Operator op, const Value& a, const Value& b) {
  charge(1);
  if (a.is_undefined()) fail_undefined(a);
  if (op == Operator::Modulo && a.is_text()) return percent_format(*this, a, b);
  if (b.is_undefined()) fail_undefined(b);
  if (a.is_integral() && b.is_integral()) return integer_operation(op, a.integer(), b.integer());
  if (a.is_number() && b.is_number()) return float_operation(op, a.number(), b.number());
  if (op == Operator::Add) return add(a, b);
  if (op == Operator::Multiply && b.is_integral()) return repeat(a, b);
  if (op == Operator::Multiply && a.is_integral()) return repeat(b, a);
  fail(std::string("'") + sign_of(op) + "' is not possible between " + type_of(a) + " and " + type_of(b));
}

Value Context::add(const Value& a, const Value& b) {
  if (a.is_text() && b.is_text()) {
    const bool is_markup = a.is_markup() || b.is_markup();
    check_size(a.str().size() + b.str().size());
    if (!is_markup) return Value::text(a.str() + b.str());
    return text(
        (a.is_markup() ? a.str() : escape_html(a.str())) + (b.is_markup() ? b.str() : escape_html(b.str())),
        true);
  }
  const Sequence* s = a.sequence();
  const Sequence* t = b.sequence();
  if (s && t && s->kind == t->kind && (s->kind == Sequence::Kind::List || s->kind == Sequence::Kind::Tuple)) {
    charge(4 * static_cast<int64_t>(s->items.size() + t->items.size()));
    std::vector<Value> both = s->items;
    both.insert(both.end(), t->items.begin(), t->items.end());
    return list(std::move(both), s->kind);
  }
  if (a.is_text()) fail("only text can be added to text, not " + type_of(b));
  fail("'+' is not possible between " + type_of(a) + " and " + type_of(b));
}

Value Context::repeat(const Value& v, const Value& times) {
  const auto n = static_cast<uint64_t>(std::max<int64_t>(times.integer(), 0));
  const Sequence* s = v.sequence();
  const uint64_t size = v.is_text() ? v.str().size() : s ? s->items.size() : 0;
  if (size && n > (uint64_t{1} << 40) / size) fail("a repetition is too long");
  if (v.is_text()) {
    check_size(static_cast<size_t>(size * n));
    std::string out;
    for (uint64_t i = 0; size && i < n; ++i) out += v.str();
    return Value::text(std::move(out), v.is_markup());
  }
  if (s && (s->kind == Sequence::Kind::List || s->kind == Sequence::Kind::Tuple)) {
    charge(static_cast<int64_t>(4 * size * n));
    std::vector<Value> out;
    for (uint64_t i = 0; size && i < n; ++i) out.insert(out.end(), s->items.begin(), s->items.end());
    return list(std::move(out), s->kind);
  }
  fail("'*' is not possible between " + type_of(v) + " and 'int'");
}

Value Context::integer_operation(Operator op, int64_t a, int64_t b) {
  int64_t out = 0;
  const auto check = [this](bool overflows) {
    if (overflows) fail("an integer needs more than 64 bits");
  };
  switch (op) {
    case Operator::Add:
      check(__builtin_add_overflow(a, b, &out));
      return out;
    case Operator::Subtract:
      check(__builtin_sub_overflow(a, b, &out));
      return out;
    case Operator::Multiply:
      check(__builtin_mul_overflow(a, b, &out));
      return out;
    case Operator::Power: {
      if (b < 0) return float_operation(op, static_cast<double>(a), static_cast<double>(b));
      if (a == 0 || a == 1) return b == 0 ? int64_t{1} : a;
      if (a == -1) return b % 2 ? int64_t{-1} : int64_t{1};
      check(b > 64);
      out = 1;
      for (int64_t i = 0; i < b; ++i) check(__builtin_mul_overflow(out, a, &out));
      return out;
    }
    default:
      break;
  }
  if (b == 0) fail("division by zero");
  if (op == Operator::Divide)
    return static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b));
  if (b == -1) {  // the one quotient that may not fit
    if (op == Operator::Modulo) return int64_t{0};
    check(__builtin_sub_overflow(int64_t{0}, a, &out));
    return out;
  }
  const int64_t remainder = a % b;
  const bool rounds_up = remainder != 0 && (remainder < 0) != (b < 0);
  if (op == Operator::FloorDivide) return a / b - (rounds_up ? 1 : 0);
  return remainder + (rounds_up ? b : 0);
}

Value Context::float_operation(Operator op, double a, double b) {
  switch (op) {
    case Operator::Add:
      return a + b;
    case Operator::Subtract:
      return a - b;
    case Operator::Multiply:
      return a * b;
    case Operator::Power: {
      if (a == 0 && b < 0) fail("0 cannot be raised to a negative power");
      const double out = std::pow(a, b);
      if (a < 0 && std::isfinite(a) && std::isnan(out) && !std::isnan(b))
        fail_unsupported_here("a complex number");
      if (std::isinf(out) && std::isfinite(a) && std::isfinite(b)) fail("a number is too large");
      return out;
    }
    default:
      break;
  }
  if (b == 0) fail("division by zero");
  if (op == Operator::Divide) return a / b;
  double remainder = std::fmod(a, b);
  double quotient = (a - remainder) / b;
  if (remainder != 0) {
    if ((b < 0) != (remainder < 0)) {
      remainder += b;
      quotient -= 1;
    }
  } else {
    remainder = std::copysign(0.0, b);
  }
  if (op == Operator::Modulo) return remainder;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double whole = std::floor(quotient);
  return quotient - whole > 0.5 ? whole + 1 : whole;
}

Value Context::negate(const Value& v) {
  if (v.is_undefined()) fail_undefined(v);
  if (v.is_float()) return -v.number();
  if (v.is_integral()) return integer_operation(Operator::Subtract, 0, v.integer());
  fail("'-' is not possible with " + type_of(v));
}

// ---- Parts

std::vector<Value> Context::items(const Value& v) {
  std::vector<Value> out;
  if (v.is_undefined()) return out;
  if (v.is_text()) {
    charge(static_cast<int64_t>(v.str().size()) * 4);
    for (size_t at = 0; at < v.str().size();) {
      const size_t start = at;
      next_code_point(v.str(), at);
      out.push_back(Value::text(v.str().substr(start, at - start)));
    }
    return out;
  }
  if (Sequence* s = v.sequence()) {
    charge(4 * static_cast<int64_t>(s->items.size()));
    if (s->kind != Sequence::Kind::Generator) return s->items;
    out.assign(s->items.begin() + static_cast<std::ptrdiff_t>(s->taken), s->items.end());
    s->taken = s->items.size();
    return out;
  }
  if (const Dict* d = v.dict()) {
    charge(4 * static_cast<int64_t>(d->entries.size()));
    for (const auto& entry : d->entries) out.push_back(entry.first);
    return out;
  }
  fail(type_of(v) + " object is not iterable");
}

int64_t Context::length(const Value& v) {
  charge(1);
  if (v.is_undefined()) return 0;
  if (v.is_text()) {
    charge(static_cast<int64_t>(v.str().size() / 8));
    return static_cast<int64_t>(count_code_points(v.str()));
  }
  if (const Sequence* s = v.sequence(); s && s->has_length()) return static_cast<int64_t>(s->items.size());
  if (const Dict* d = v.dict()) return static_cast<int64_t>(d->entries.size());
  fail("object of type " + type_of(v) + " has no length");
}

namespace {

// value.name, kept for a later call.
class Method : public Object {
 public:
  Method(Value self, std::string name) : self_(std::move(self)), name_(std::move(name)) {}
  const char* type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value call(Context& context, CallArguments& arguments) override {
    return call_method(context, self_, name_, arguments);
  }

 private:
  const Value self_;
  const std::string name_;
};

Value missing(const Value& object, const std::string& name) {
  return Value::undefined(object.object() || object.is_none() || object.is_text() || object.is_number()
                              ? std::string("'") + object.type_name() + "' has no attribute " + repr(name)
                              : std::string("'") + object.type_name() + " object' has no attribute " +
                                    repr(name));
}

}  // namespace

std::optional<Value> Context::method(const Value& object, const std::string& name) {
  if (Object* o = object.object()) {
    if (const auto found = o->attribute(*this, name)) return *found;
    return std::nullopt;
  }
  switch (find_method(object, name)) {
    case MethodAccess::Callable:
      return Value(make<Method>(object, name));
    case MethodAccess::Forbidden:
      return Value::undefined("access to " + repr(name) + " of " + type_of(object) + " is unsafe");
    case MethodAccess::Unsupported:
      fail_unsupported_here("the method " + std::string(object.type_name()) + "." + name);
    case MethodAccess::None:
      break;
  }
  return std::nullopt;
}

// object[key] as Python has it, none where it would raise.
std::optional<Value> Context::element(const Value& object, const Value& key) {
  charge(1);
  if (const Dict* d = object.dict()) {
    if (!key.is_hashable()) return std::nullopt;
    if (!key.is_text()) charge(static_cast<int64_t>(d->entries.size()));
    const Value* found = d->find(key);
    return found ? std::optional<Value>(*found) : std::nullopt;
  }
  if (!key.is_integral()) return std::nullopt;
  int64_t i = key.integer();
  if (object.is_text()) {
    const std::string& s = object.str();
    charge(static_cast<int64_t>(s.size() / 8));
    const auto n = static_cast<int64_t>(count_code_points(s));
    if (i < 0) i += n;
    if (i < 0 || i >= n) return std::nullopt;
    size_t end = byte_offset(s, static_cast<size_t>(i));
    const size_t start = end;
    next_code_point(s, end);
    return Value::text(s.substr(start, end - start), object.is_markup());
  }
  const Sequence* s = object.sequence();
  if (!s || !s->has_items()) return std::nullopt;
  const auto n = static_cast<int64_t>(s->items.size());
  if (i < 0) i += n;
  if (i < 0 || i >= n) return std::nullopt;
  return s->items[static_cast<size_t>(i)];
}

Value Context::attribute(const Value& object, const std::string& name) {
  charge(1);
  if (object.is_undefined()) fail_undefined(object);
  if (auto found = method(object, name)) return *found;
  if (object.dict()) {
    if (auto found = element(object, Value::text(name))) return *found;
  }
  return missing(object, name);
}

Value Context::item(const Value& object, const Value& key) {
  if (object.is_undefined()) fail_undefined(object);
  if (auto found = element(object, key)) return *found;
  if (key.is_text()) {
    if (auto found = method(object, key.str())) return *found;
    return missing(object, key.str());
  }
  return missing(object, str(key));
}

Value Context::slice(const Value& object, const Value& start, const Value& stop, const Value& step) {
  if (object.is_undefined()) fail_undefined(object);
  const auto bound = [&](const Value& v, int64_t otherwise) {
    if (v.is_none()) return otherwise;
    if (!v.is_integral()) fail("slices take integers, not " + type_of(v));
    return v.integer();
  };
  const Sequence* s = object.sequence();
  if (!object.is_text() && (!s || !s->has_items())) fail(type_of(object) + " object cannot be sliced");
  const int64_t n = length(object);
  const int64_t by = bound(step, 1);
  if (by == 0) fail("a slice's step cannot be 0");
  const int64_t low = by < 0 ? -1 : 0;
  const int64_t high = by < 0 ? n - 1 : n;
  const int64_t from = start.is_none() ? (by < 0 ? high : low) : slice_bound(bound(start, 0), n, low, high);
  const int64_t to = stop.is_none() ? (by < 0 ? low : high) : slice_bound(bound(stop, 0), n, low, high);
  std::vector<size_t> chosen;
  const auto walk = [&](const auto& take) {
    for (int64_t i = from; by > 0 ? i < to : i > to; i += by) {
      take(static_cast<size_t>(i));
      if (by > n || by < -n) break;  // and nothing overflows
    }
  };
  if (object.is_text()) {
    check_size(object.str().size());
    const std::string& bytes = object.str();
    if (by == 1) {
      if (to <= from) return text("", object.is_markup());
      const size_t begin = byte_offset(bytes, static_cast<size_t>(from));
      const std::string_view rest = std::string_view(bytes).substr(begin);
      return text(std::string(rest.substr(0, byte_offset(rest, static_cast<size_t>(to - from)))),
                  object.is_markup());
    }
    const std::u32string points = to_code_points(bytes);
    std::string out;
    walk([&](size_t i) { append_utf8(out, points[i]); });
    return text(std::move(out), object.is_markup());
  }
  std::vector<Value> out;
  walk([&](size_t i) { out.push_back(s->items[i]); });
  Value result = list(std::move(out), s->kind);
  if (s->kind == Sequence::Kind::Range) {
    Sequence* r = result.sequence();
    r->start = s->start + from * s->step;
    r->stop = s->start + to * s->step;
    if (__builtin_mul_overflow(s->step, by, &r->step)) fail("an integer needs more than 64 bits");
  }
  return result;
}

Value Context::call(const Value& callee, CallArguments& arguments) {
  const Level level(*this);
  charge(1);
  if (callee.is_undefined()) fail_undefined(callee);
  if (Object* o = callee.object()) return o->call(*this, arguments);
  fail(type_of(callee) + " object is not callable");
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Value percent_format(Context& context, const Value& format, const Value& argument) {
  const std::string& f = format.str();
  const Sequence* tuple = argument.sequence();
  if (tuple && tuple->kind != Sequence::Kind::Tuple) tuple = nullptr;
  size_t used = 0;
  std::string out;
  const auto next = [&]() -> const Value& {
    if (tuple ? used >= tuple->items.size() : used > 0)
      context.fail("not enough arguments for the format string");
    return tuple ? tuple->items[used++] : (++used, argument);
  };
  for (size_t i = 0; i < f.size();) {
    if (f[i] != '%') {
      out += f[i++];
      continue;
    }
    if (++i >= f.size()) context.fail("a format string ends with %");
    if (f[i] == '%') {
      out += '%';
      ++i;
      continue;
    }
    const Value* named = nullptr;
    if (f[i] == '(') {
      const size_t close = f.find(')', i);
      if (close == f.npos || !argument.dict()) context.fail("a format string's %(name) needs a mapping");
      named = argument.dict()->find(std::string_view(f).substr(i + 1, close - i - 1));
      if (!named)
        context.fail("the mapping for a format string lacks " + repr(f.substr(i + 1, close - i - 1)));
      i = close + 1;
    }
    std::string spec = "%";
    int width = 0;
    while (i < f.size() && std::string_view("-+ 0#").find(f[i]) != std::string_view::npos) spec += f[i++];
    while (i < f.size() && f[i] >= '0' && f[i] <= '9' && width < 1000) {
      width = width * 10 + (f[i] - '0');
      spec += f[i++];
    }
    int precision = -1;
    if (i < f.size() && f[i] == '.') {
      spec += f[i++];
      precision = 0;
      while (i < f.size() && f[i] >= '0' && f[i] <= '9' && precision < 1000) {
        precision = precision * 10 + (f[i] - '0');
        spec += f[i++];
      }
    }
    if (width >= 1000 || precision >= 1000) context.fail("a format string's width is too large");
    if (i >= f.size()) context.fail("incomplete format");
    const char kind = f[i++];
    const Value& v = named ? *named : next();
    char buffer[2048];
    switch (kind) {
      case 's':
      case 'r': {
        std::string text;
        if (kind == 's') {
          context.append_str(text, v);
        } else {
          context.append_repr(text, v);
        }
        if (precision >= 0) text = text.substr(0, byte_offset(text, static_cast<size_t>(precision)));
        const auto n = static_cast<int>(count_code_points(text));
        const std::string fill(static_cast<size_t>(std::max(0, width - n)), ' ');
        const bool left = spec.find('-') != spec.npos;
        out += left ? text + fill : fill + text;
        break;
      }
      case 'd':
      case 'i':
      case 'x':
      case 'X':
      case 'o': {
        const bool is_decimal = kind == 'd' || kind == 'i';
        if (!(v.is_integral() || (v.is_float() && is_decimal && std::abs(v.number()) < 9e18))) {
          context.fail(std::string("%") + kind + " needs a number, not " + type_of(v));
        }
        const int64_t n = v.is_float() ? static_cast<int64_t>(v.number()) : v.integer();
        if (n < 0 && !is_decimal)
          context.fail_unsupported_here(std::string("%") + kind + " of a negative number");
        std::snprintf(buffer, sizeof buffer, (spec + "ll" + kind).c_str(), static_cast<long long>(n));
        out += buffer;
        break;
      }
      case 'e':
      case 'E':
      case 'f':
      case 'F':
      case 'g':
      case 'G':
        if (!v.is_number()) context.fail(std::string("%") + kind + " needs a number, not " + type_of(v));
        std::snprintf(buffer, sizeof buffer, (spec + kind).c_str(), v.number());
        out += buffer;
        break;
      default:
        context.fail_unsupported_here(std::string("the format %") + kind);
    }
    context.check_size(out.size());
  }
  if (tuple ? used < tuple->items.size() : used == 0 && !argument.dict() && !argument.sequence()) {
    context.fail("not all arguments were used by the format string");
  }
  return context.text(std::move(out), format.is_markup());
}

}  // namespace mllm::jinja
