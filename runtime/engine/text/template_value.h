// What a template computes with: Python's values, as far as templates see them.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_VALUE_H_
#define MINDIR_LLM_TEXT_TEMPLATE_VALUE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"

namespace mllm::jinja {

class Value;
struct Sequence;
struct Dict;
class Object;

// The name of what is missing, for the complaint when it is used after all.
struct Undefined {
  std::shared_ptr<const std::string> what;
};

struct None {};

// Valid UTF-8. Markup is what the filters `safe` and `escape` give: sums with it escape the other side.
struct Text {
  std::shared_ptr<const std::string> bytes;
  bool is_markup = false;
};

class Value {
 public:
  Value() : value_(None{}) {}
  Value(bool v) : value_(v) {}                                  // NOLINT: values convert as they do in Python
  Value(int64_t v) : value_(v) {}                               // NOLINT
  Value(double v) : value_(v) {}                                // NOLINT
  Value(std::shared_ptr<Sequence> v) : value_(std::move(v)) {}  // NOLINT
  Value(std::shared_ptr<Dict> v) : value_(std::move(v)) {}      // NOLINT
  Value(Object* v) : value_(v) {}                               // NOLINT
  static Value undefined(std::string what);
  static Value text(std::string bytes, bool is_markup = false);

  bool is_undefined() const { return std::holds_alternative<Undefined>(value_); }
  bool is_none() const { return std::holds_alternative<None>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_float() const { return std::holds_alternative<double>(value_); }
  bool is_text() const { return std::holds_alternative<Text>(value_); }
  bool is_markup() const { return is_text() && std::get<Text>(value_).is_markup; }
  bool is_integral() const { return is_bool() || is_int(); }  // what Python takes for an int
  bool is_number() const { return is_integral() || is_float(); }

  // Only where the kind has been asked for.
  bool boolean() const { return std::get<bool>(value_); }
  int64_t integer() const { return is_bool() ? int64_t{boolean()} : std::get<int64_t>(value_); }
  double number() const { return is_float() ? std::get<double>(value_) : static_cast<double>(integer()); }
  const std::string& str() const { return *std::get<Text>(value_).bytes; }
  const std::string& missing() const { return *std::get<Undefined>(value_).what; }
  Sequence* sequence() const;  // null where it is none
  Dict* dict() const;
  Object* object() const;
  const std::shared_ptr<Sequence>& shared_sequence() const {
    return std::get<std::shared_ptr<Sequence>>(value_);
  }

  bool is_true() const;
  int depth() const;              // how deep lists and dicts are nested in it
  const char* type_name() const;  // Python's
  bool is_hashable() const;       // may be a key

 private:
  friend bool is_same(const Value& a, const Value& b);
  std::variant<None, Undefined, bool, int64_t, double, Text, std::shared_ptr<Sequence>, std::shared_ptr<Dict>,
               Object*>
      value_;
};

bool is_same(const Value& a, const Value& b);  // `a is b`

struct Sequence {
  // A generator can be walked through once, has no length and no items by number; a view is what keys(),
  // values() and items() give.
  enum class Kind { List, Tuple, Range, Generator, View };
  Kind kind = Kind::List;
  std::vector<Value> items;
  size_t taken = 0;  // of a generator
  int depth = 1;
  int64_t start = 0, stop = 0, step = 1;  // of a range
  const char* view = "";                  // "dict_keys" …

  bool has_length() const { return kind != Kind::Generator; }
  bool has_items() const { return kind == Kind::List || kind == Kind::Tuple || kind == Kind::Range; }
};

// In the order in which keys came.
struct Dict {
  std::vector<std::pair<Value, Value>> entries;
  int depth = 1;

  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(Value key, Value value);

 private:
  std::unordered_map<std::string_view, size_t> texts_;  // of text keys; they live as long as their entry
};

class Context;

struct CallArguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> keywords;
};

// Things with behaviour of their own; the context owns them all, because namespaces may form cycles.
class Object {
 public:
  virtual ~Object() = default;
  virtual const char* type_name() const = 0;
  // Null where it has none of this name.
  virtual std::unique_ptr<Value> attribute(Context& context, const std::string& name);
  virtual bool is_callable() const { return false; }
  virtual Value call(Context& context, CallArguments& arguments);
};

class Namespace : public Object {
 public:
  const char* type_name() const override { return "Namespace"; }
  std::unique_ptr<Value> attribute(Context& context, const std::string& name) override;
  Dict attributes;
};

// A conversation's JSON. Depth is bounded by the reader.
Value from_json(const Json& json);

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_VALUE_H_
