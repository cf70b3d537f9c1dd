// What templates find by name: filters, tests, methods of values, and functions.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_BUILTINS_H_
#define MINDIR_LLM_TEXT_TEMPLATE_BUILTINS_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/template_value.h"

namespace mllm::jinja {

using Filter = Value (*)(Context&, const Value& input, CallArguments&);
using Test = bool (*)(Context&, const Value& input, CallArguments&);

// Null where there is none of that name.
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);

enum class MethodAccess {
  None,  // no such method: keys may have this name
  Callable,
  Forbidden,    // would change the value: hidden by the sandbox, as if undefined
  Unsupported,  // Python has it, this has not
};
MethodAccess find_method(const Value& self, std::string_view name);
Value call_method(Context& context, const Value& self, const std::string& name, CallArguments& arguments);

// range, dict, namespace, joiner, cycler, raise_exception, strftime_now; null for other names.
Object* find_function(Context& context, const std::string& name);

// Arguments by position or keyword, as Python binds them; fails on one too many, unknown or missing.
class Parameters {
 public:
  Parameters(Context& context, std::string callee, CallArguments& arguments,
             std::initializer_list<const char*> names, size_t required);

  bool has(size_t i) const { return given_[i]; }
  const Value& operator[](size_t i) const { return values_[i]; }  // none where it was not given
  int64_t integer(size_t i, int64_t otherwise) const;
  bool truth(size_t i, bool otherwise) const { return given_[i] ? values_[i].is_true() : otherwise; }
  const std::string& text(size_t i) const;

 private:
  [[noreturn]] void fail(size_t i, const char* expected) const;
  Context& context_;
  std::string callee_;
  std::vector<const char*> names_;
  std::vector<Value> values_;
  std::vector<bool> given_;
};

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_BUILTINS_H_
