// Walks over a parsed template and writes its text.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_RENDER_H_
#define MINDIR_LLM_TEXT_TEMPLATE_RENDER_H_

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "text/template_ast.h"
#include "text/template_context.h"

namespace mllm::jinja {

// Names of a block, as jinja2 scopes them: `set` stays inside of loops, macros and their like, not of `if`.
struct Scope {
  Scope* parent = nullptr;
  std::map<std::string, Value, std::less<>> names;
};

class Renderer {
 public:
  // `variables`: what the caller gives; they hide functions of the same name.
  Renderer(Context& context, Dict variables) : context_(context), variables_(std::move(variables)) {}

  std::string run(const Body& body);

  // For macros, which come back here when they are called.
  Value call_macro(const Statement& macro, Scope* scope, CallArguments& arguments);

 private:
  enum class Flow { Next, Break, Continue };
  struct Caller;

  Flow execute(const Body& body, std::string& out);
  Flow execute(const Statement& s, std::string& out);
  Flow loop(const Statement& s, std::string& out);
  void call_block(const Statement& s, std::string& out);
  std::string captured(const Body& body);  // in a scope of its own
  void assign(const Target& target, const Value& value);
  void define(const std::string& name, Value value) {
    scope_->names.insert_or_assign(name, std::move(value));
  }

  Value evaluate(const Expr& e);
  Value name(const Expr& e);
  Value dict(const Expr& e);
  Value call(const Expr& e);
  Value compare(const Expr& e);
  Value concatenation(const Expr& e);
  Value filter(const Expr& e, const Value& input);
  Value filter_block(const ExprPtr& chain, Value text);
  std::vector<Value> evaluate_all(const std::vector<ExprPtr>& parts);
  CallArguments arguments(const Arguments& a);

  // A scope on the stack while this lives. Scopes are kept to the end, because macros refer to them.
  struct Inner {
    explicit Inner(Renderer& renderer, Scope* parent) : r(renderer), before(renderer.scope_) {
      r.context_.charge(8);
      r.scopes_.push_back({parent, {}});
      r.scope_ = &r.scopes_.back();
      count = r.scopes_.size();
      macros = r.macros_;
    }
    ~Inner() {
      // Nothing refers to it when no macro was defined since and nothing was put above it.
      if (r.macros_ == macros && r.scopes_.size() == count) r.scopes_.pop_back();
      r.scope_ = before;
    }
    Inner(const Inner&) = delete;
    Inner& operator=(const Inner&) = delete;
    Renderer& r;
    Scope* const before;
    size_t count = 0;
    int64_t macros = 0;
  };

  Context& context_;
  const Dict variables_;
  std::map<std::string, Value, std::less<>> functions_;
  std::deque<Scope> scopes_;
  Scope* scope_ = nullptr;
  int64_t macros_ = 0;  // defined so far
};

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_RENDER_H_
