#include "text/template_value.h"

#include <algorithm>
#include <cmath>

namespace mllm::jinja {
namespace {

// Keys are equal as in Python: 1, 1.0 and True are one key. Only hashable values come here.
bool equal_keys(const Value& a, const Value& b) {
  if (a.is_text() || b.is_text()) return a.is_text() && b.is_text() && a.str() == b.str();
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.number() == b.number() : a.integer() == b.integer();
  }
  if (a.is_none() || b.is_none()) return a.is_none() && b.is_none();
  if (a.is_undefined() || b.is_undefined()) return a.is_undefined() && b.is_undefined();
  const Sequence* s = a.sequence();
  const Sequence* t = b.sequence();
  if (s && t && s->kind == t->kind && s->items.size() == t->items.size()) {
    return std::equal(s->items.begin(), s->items.end(), t->items.begin(), equal_keys);
  }
  return is_same(a, b);
}

}  // namespace

Value Value::undefined(std::string what) {
  Value v;
  v.value_ = Undefined{std::make_shared<const std::string>(std::move(what))};
  return v;
}

Value Value::text(std::string bytes, bool is_markup) {
  Value v;
  v.value_ = Text{std::make_shared<const std::string>(std::move(bytes)), is_markup};
  return v;
}

Sequence* Value::sequence() const {
  const auto* p = std::get_if<std::shared_ptr<Sequence>>(&value_);
  return p ? p->get() : nullptr;
}

Dict* Value::dict() const {
  const auto* p = std::get_if<std::shared_ptr<Dict>>(&value_);
  return p ? p->get() : nullptr;
}

Object* Value::object() const {
  const auto* p = std::get_if<Object*>(&value_);
  return p ? *p : nullptr;
}

bool Value::is_true() const {
  if (is_undefined() || is_none()) return false;
  if (is_integral()) return integer() != 0;
  if (is_float()) return number() != 0;
  if (is_text()) return !str().empty();
  if (const Sequence* s = sequence()) return !s->has_length() || !s->items.empty();
  if (const Dict* d = dict()) return !d->entries.empty();
  return true;
}

int Value::depth() const {
  if (const Sequence* s = sequence()) return s->depth;
  if (const Dict* d = dict()) return d->depth;
  return 0;
}

const char* Value::type_name() const {
  if (is_undefined()) return "Undefined";
  if (is_none()) return "NoneType";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_text()) return is_markup() ? "Markup" : "str";
  if (const Sequence* s = sequence()) {
    switch (s->kind) {
      case Sequence::Kind::List:
        return "list";
      case Sequence::Kind::Tuple:
        return "tuple";
      case Sequence::Kind::Range:
        return "range";
      case Sequence::Kind::Generator:
        return "generator";
      case Sequence::Kind::View:
        return s->view;
    }
  }
  if (dict()) return "dict";
  return object()->type_name();
}

bool Value::is_hashable() const {
  if (dict()) return false;
  const Sequence* s = sequence();
  if (!s) return true;
  if (s->kind == Sequence::Kind::List || s->kind == Sequence::Kind::View) return false;
  return s->kind != Sequence::Kind::Tuple ||
         std::ranges::all_of(s->items, [](const Value& v) { return v.is_hashable(); });
}

bool is_same(const Value& a, const Value& b) {
  if (a.value_.index() != b.value_.index()) return false;
  if (a.is_none()) return true;
  if (a.is_integral()) return a.integer() == b.integer();
  if (a.is_float()) return a.number() == b.number();
  if (a.is_text()) return a.str() == b.str();
  if (a.is_undefined()) return std::get<Undefined>(a.value_).what == std::get<Undefined>(b.value_).what;
  if (a.sequence()) return a.sequence() == b.sequence();
  if (a.dict()) return a.dict() == b.dict();
  return a.object() == b.object();
}

const Value* Dict::find(std::string_view key) const {
  const auto found = texts_.find(key);
  return found == texts_.end() ? nullptr : &entries[found->second].second;
}

const Value* Dict::find(const Value& key) const {
  if (key.is_text()) return find(std::string_view(key.str()));
  const auto found = std::ranges::find_if(
      entries, [&](const auto& entry) { return !entry.first.is_text() && equal_keys(entry.first, key); });
  return found == entries.end() ? nullptr : &found->second;
}

void Dict::set(Value key, Value value) {
  depth = std::max({depth, 1 + key.depth(), 1 + value.depth()});
  if (const Value* old = find(key)) {
    *const_cast<Value*>(old) = std::move(value);
    return;
  }
  if (key.is_text()) texts_.emplace(key.str(), entries.size());
  entries.emplace_back(std::move(key), std::move(value));
}

Value from_json(const Json& json) {
  return json.visit([](const auto& v) -> Value {
    using T = std::decay_t<decltype(v)>;
    if constexpr (std::is_same_v<T, std::monostate>) {
      return {};
    } else if constexpr (std::is_same_v<T, std::string>) {
      return Value::text(v);
    } else if constexpr (std::is_same_v<T, Json::Array>) {
      auto list = std::make_shared<Sequence>();
      for (const Json& item : v) {
        list->items.push_back(from_json(item));
        list->depth = std::max(list->depth, 1 + list->items.back().depth());
      }
      return list;
    } else if constexpr (std::is_same_v<T, Json::Object>) {
      auto dict = std::make_shared<Dict>();
      for (const auto& [key, member] : v) dict->set(Value::text(key), from_json(member));
      return dict;
    } else {
      return v;
    }
  });
}

}  // namespace mllm::jinja
