// Python's operations on values, under limits: what a hostile template can cost is bounded in time, memory
// and stack.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_CONTEXT_H_
#define MINDIR_LLM_TEXT_TEMPLATE_CONTEXT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/template_ast.h"
#include "text/template_builtins.h"
#include "text/template_value.h"

namespace mllm::jinja {

struct Limits {
  int64_t steps = 20'000'000;        // about a second; an item of a list counts four, eight bytes of text one
  size_t output = size_t{16} << 20;  // bytes of any text
  int nesting = 600;                 // of calls and expressions in each other
};

// How json.dumps is to write.
struct JsonStyle {
  bool ascii_only = false;
  std::optional<std::string> indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
  bool sort_keys = false;
};

class Context {
 public:
  // local_time: seconds since 1970 on the local clock.
  Context(Limits limits, int64_t local_time) : limits_(limits), local_time_(local_time) {}
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  int64_t local_time() const { return local_time_; }
  size_t max_output() const { return limits_.output; }
  int line = 0;  // of what is being evaluated

  [[noreturn]] void fail(const std::string& why) const;  // with the line
  [[noreturn]] void fail_undefined(const Value& v) const;
  [[noreturn]] void fail_unsupported_here(const std::string& what) const;

  // Limits. Everything that is made passes through here.
  void charge(int64_t steps) {
    if ((limits_.steps -= steps) < 0) fail_steps();
  }
  void check_size(size_t bytes);  // of a text that is about to be made; charges it as well
  Value text(std::string bytes, bool is_markup = false);
  Value list(std::vector<Value> items, Sequence::Kind kind = Sequence::Kind::List);
  Value texts(const std::vector<std::string>& items);
  Value pair(Value first, Value second);  // a tuple
  Value view(std::vector<Value> items, const char* kind);
  void set(Dict& dict, Value key, Value value);
  template <class T, class... Args>
  T* make(Args&&... args) {
    charge(16);
    auto object = std::make_unique<T>(std::forward<Args>(args)...);
    T* raw = object.get();
    objects_.push_back(std::move(object));
    return raw;
  }
  struct Level {  // one more level of recursion
    explicit Level(Context& context) : c(context) {
      if (++c.level_ > c.limits_.nesting) {
        --c.level_;
        c.fail("calls and expressions are nested too deep");
      }
    }
    ~Level() { --c.level_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;
    Context& c;
  };

  // Text forms.
  std::string str(const Value& v);
  void append_str(std::string& out, const Value& v);
  void append_repr(std::string& out, const Value& v);
  std::string json(const Value& v, const JsonStyle& style);

  // Operators.
  bool equal(const Value& a, const Value& b);
  bool less(const Value& a, const Value& b, const char* sign = "<");
  bool contains(const Value& container, const Value& item);
  Value binary(Operator op, const Value& a, const Value& b);
  Value negate(const Value& v);
  bool compare(Operator op, const Value& a, const Value& b);

  // Parts.
  std::vector<Value> items(const Value& v);  // what a loop would walk through; uses a generator up
  int64_t length(const Value& v);
  Value attribute(const Value& object, const std::string& name);
  Value item(const Value& object, const Value& key);
  Value slice(const Value& object, const Value& start, const Value& stop, const Value& step);
  Value call(const Value& callee, CallArguments& arguments);

 private:
  [[noreturn]] void fail_steps() const;
  void check_depth(int depth) const;
  std::optional<Value> method(const Value& object, const std::string& name);
  std::optional<Value> element(const Value& object, const Value& key);
  void append_json(std::string& out, const Value& v, const JsonStyle& style, int level);
  Value add(const Value& a, const Value& b);
  Value repeat(const Value& sequence, const Value& times);
  Value integer_operation(Operator op, int64_t a, int64_t b);
  Value float_operation(Operator op, double a, double b);

  Limits limits_;
  const int64_t local_time_;
  int level_ = 0;
  std::vector<std::unique_ptr<Object>> objects_;
};

// escape(): & < > ' " as HTML spells them.
std::string escape_html(std::string_view text);
// "…" % argument
Value percent_format(Context& context, const Value& format, const Value& argument);

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_CONTEXT_H_
