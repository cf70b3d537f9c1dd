#include "text/template_render.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <utility>

#include "text/template_strings.h"

namespace mllm::jinja {
namespace {

// A macro, or the body of a call block, with the names around its definition.
class Macro : public Object {
 public:
  Macro(Renderer& renderer, const Statement& statement, Scope* scope)
      : renderer_(renderer), statement_(statement), scope_(scope) {}
  const char* type_name() const override { return "Macro"; }
  bool is_callable() const override { return true; }
  std::unique_ptr<Value> attribute(Context&, const std::string& name) override {
    if (name == "name") return std::make_unique<Value>(Value::text(statement_.text));
    return nullptr;
  }
  Value call(Context&, CallArguments& arguments) override {
    return renderer_.call_macro(statement_, scope_, arguments);
  }

 private:
  Renderer& renderer_;
  const Statement& statement_;
  Scope* const scope_;
};

// The variable `loop`. Items pass the loop's condition one by one, and one ahead only where somebody asks
// what comes next, as in jinja2: bodies may change what the condition looks at.
class Loop : public Object {
 public:
  using Condition = std::function<bool(const Value&)>;

  Loop(std::vector<Value> items, Condition condition, int depth, bool has_length)
      : items_(std::move(items)), condition_(std::move(condition)), depth_(depth), has_length_(has_length) {}

  const char* type_name() const override { return "LoopContext"; }
  int depth() const { return depth_; }
  const Value& current() const { return current_; }

  bool advance() {
    std::optional<Value> next = std::exchange(ahead_, std::nullopt);
    if (!next) next = pull();
    if (!next) return false;
    if (++index0_ > 0) previous_ = std::move(current_);
    current_ = std::move(*next);
    return true;
  }

  // Whoever kept the loop finds nothing more behind it: its condition refers to scopes that end.
  void finish() {
    at_ = items_.size();
    condition_ = nullptr;
  }

  std::unique_ptr<Value> attribute(Context& c, const std::string& name) override {
    const auto give = [](Value v) { return std::make_unique<Value>(std::move(v)); };
    if (name == "index") return give(index0_ + 1);
    if (name == "index0") return give(index0_);
    if (name == "first") return give(index0_ == 0);
    if (name == "last") return give(!look_ahead());
    if (name == "length") return give(length());
    if (name == "revindex") return give(length() - index0_);
    if (name == "revindex0") return give(length() - index0_ - 1);
    if (name == "depth") return give(int64_t{depth_});
    if (name == "depth0") return give(int64_t{depth_ - 1});
    if (name == "previtem") {
      return give(index0_ == 0 ? Value::undefined("there is no previous item") : previous_);
    }
    if (name == "nextitem") return give(look_ahead() ? *ahead_ : Value::undefined("there is no next item"));
    if (name == "cycle" || name == "changed") return give(c.make<Method>(*this, name == "cycle"));
    return nullptr;
  }

 private:
  class Method : public Object {
   public:
    Method(Loop& loop, bool cycles) : loop_(loop), cycles_(cycles) {}
    const char* type_name() const override { return "method"; }
    bool is_callable() const override { return true; }
    Value call(Context& c, CallArguments& a) override {
      if (!a.keywords.empty()) c.fail("loop.cycle and loop.changed take no keyword arguments");
      if (cycles_) {
        if (a.positional.empty()) c.fail("no items for cycling given");
        return a.positional[static_cast<size_t>(loop_.index0_) % a.positional.size()];
      }
      Value now = c.list(a.positional, Sequence::Kind::Tuple);
      const bool changed = !loop_.last_changed_ || !c.equal(*loop_.last_changed_, now);
      if (changed) loop_.last_changed_ = std::move(now);
      return changed;
    }

   private:
    Loop& loop_;
    const bool cycles_;
  };

  std::optional<Value> pull() {
    while (at_ < items_.size()) {
      Value& item = items_[at_++];
      if (!condition_ || condition_(item)) return std::move(item);
    }
    return std::nullopt;
  }

  bool look_ahead() {
    if (!ahead_) ahead_ = pull();
    return ahead_.has_value();
  }

  int64_t length() {
    if (length_ < 0) {
      if (!condition_ && has_length_) {
        length_ = static_cast<int64_t>(items_.size());
      } else {
        // All that passes the condition now.
        std::vector<Value> rest;
        while (auto v = pull()) rest.push_back(std::move(*v));
        length_ = index0_ + 1 + (ahead_ ? 1 : 0) + static_cast<int64_t>(rest.size());
        items_ = std::move(rest);
        at_ = 0;
        condition_ = nullptr;
      }
    }
    return length_;
  }

  std::vector<Value> items_;
  Condition condition_;
  const int depth_;
  const bool has_length_;
  size_t at_ = 0;
  int64_t index0_ = -1;
  int64_t length_ = -1;
  Value current_, previous_;
  std::optional<Value> ahead_;
  std::optional<Value> last_changed_;
};

}  // namespace

std::string Renderer::run(const Body& body) {
  std::string out;
  const Inner scope(*this, nullptr);
  execute(body, out);
  return out;
}

// ---- Statements

Renderer::Flow Renderer::execute(const Body& body, std::string& out) {
  const Context::Level level(context_);
  for (const Statement& s : body) {
    context_.line = s.line;
    context_.charge(1);
    const Flow flow = execute(s, out);
    if (flow != Flow::Next) return flow;
  }
  return Flow::Next;
}

Renderer::Flow Renderer::execute(const Statement& s, std::string& out) {
  using Kind = Statement::Kind;
  switch (s.kind) {
    case Kind::Text:
      context_.check_size(s.text.size());
      out += s.text;
      break;
    case Kind::Output:
      context_.append_str(out, evaluate(*s.expression));
      break;
    case Kind::If:
      for (const auto& [condition, body] : s.branches) {
        if (!condition || evaluate(*condition).is_true()) return execute(body, out);
      }
      break;
    case Kind::For:
      return loop(s, out);
    case Kind::Set:
      assign(s.target, evaluate(*s.expression));
      break;
    case Kind::SetBlock:
      assign(s.target, filter_block(s.expression, context_.text(captured(s.body))));
      break;
    case Kind::With: {
      std::vector<Value> values;
      for (const auto& assignment : s.assignments) values.push_back(evaluate(*assignment.second));
      const Inner scope(*this, scope_);
      for (size_t i = 0; i < values.size(); ++i) assign(s.assignments[i].first, values[i]);
      return execute(s.body, out);
    }
    case Kind::Macro:
      ++macros_;
      define(s.text, context_.make<Macro>(*this, s, scope_));
      break;
    case Kind::Call:
      call_block(s, out);
      break;
    case Kind::Filter:
      context_.append_str(out, filter_block(s.expression, context_.text(captured(s.body))));
      break;
    case Kind::Scope: {
      const Inner scope(*this, scope_);
      return execute(s.body, out);
    }
    case Kind::Break:
      return Flow::Break;
    case Kind::Continue:
      return Flow::Continue;
  }
  if (out.size() > context_.max_output()) context_.check_size(out.size());
  return Flow::Next;
}

Renderer::Flow Renderer::loop(const Statement& s, std::string& out) {
  const Value over = evaluate(*s.expression);
  std::vector<Value> items = context_.items(over);
  Scope* const outer = scope_;
  Loop::Condition condition;
  if (s.condition) {
    condition = [this, &s, outer](const Value& item) {
      const Inner scope(*this, outer);
      assign(s.target, item);
      return evaluate(*s.condition).is_true();
    };
  }
  const Sequence* sequence = over.sequence();
  const bool has_length = !sequence || sequence->has_length();
  const bool is_empty_undefined = over.is_undefined();
  auto* loop =
      context_.make<Loop>(std::move(items), std::move(condition), 1, has_length || is_empty_undefined);
  bool ran = false;
  while (loop->advance()) {
    ran = true;
    const Inner scope(*this, outer);
    define("loop", loop);
    assign(s.target, loop->current());
    const Flow flow = execute(s.body, out);
    if (flow == Flow::Break) break;
  }
  loop->finish();
  if (ran || s.otherwise.empty()) return Flow::Next;
  const Inner scope(*this, outer);
  return execute(s.otherwise, out);
}

void Renderer::call_block(const Statement& s, std::string& out) {
  const Expr& call = *s.expression;
  const Value callee = evaluate(*call.parts[0]);
  CallArguments a = arguments(call.arguments);
  ++macros_;
  a.keywords.emplace_back("caller", context_.make<Macro>(*this, s, scope_));
  context_.line = call.line;
  context_.append_str(out, context_.call(callee, a));
}

std::string Renderer::captured(const Body& body) {
  std::string out;
  const Inner scope(*this, scope_);
  execute(body, out);
  return out;
}

void Renderer::assign(const Target& target, const Value& value) {
  if (target.is_tuple) {
    const std::vector<Value> parts = context_.items(value);
    if (parts.size() != target.several.size()) {
      context_.fail("cannot take " + std::to_string(parts.size()) + " values apart into " +
                    std::to_string(target.several.size()));
    }
    for (size_t i = 0; i < parts.size(); ++i) assign(target.several[i], parts[i]);
  } else if (target.attribute.empty()) {
    define(target.name, value);
  } else {
    Expr e{};
    e.kind = Expr::Kind::Name;
    e.name = target.name;
    e.line = context_.line;
    auto* space = dynamic_cast<Namespace*>(name(e).object());
    if (!space) context_.fail("\"" + target.name + "\" is no namespace: only these have attributes to set");
    context_.set(space->attributes, Value::text(target.attribute), value);
  }
}

Value Renderer::call_macro(const Statement& macro, Scope* scope, CallArguments& a) {
  const int line = context_.line;
  const Context::Level level(context_);
  const std::string what = macro.text.empty() ? "caller" : "the macro \"" + macro.text + "\"";
  const Inner inner(*this, scope);
  const size_t n = macro.parameters.size();
  std::vector<bool> given(n, false);
  for (size_t i = 0; i < n; ++i) {
    const std::string& parameter = macro.parameters[i].name;
    if (i < a.positional.size()) {
      define(parameter, a.positional[i]);
      given[i] = true;
      continue;
    }
    const auto found = std::ranges::find_if(a.keywords, [&](const auto& k) { return k.first == parameter; });
    if (found == a.keywords.end()) continue;
    define(parameter, found->second);
    a.keywords.erase(found);
    given[i] = true;
  }
  if (macro.takes_caller) {
    const auto found = std::ranges::find_if(a.keywords, [](const auto& k) { return k.first == "caller"; });
    const bool is_parameter =
        std::ranges::any_of(macro.parameters, [](const Parameter& p) { return p.name == "caller"; });
    if (found != a.keywords.end()) {
      define("caller", found->second);
      a.keywords.erase(found);
    } else if (!is_parameter) {
      define("caller", Value::undefined("No caller defined"));
    }
  }
  if (macro.takes_keywords) {
    auto rest = std::make_shared<Dict>();
    for (auto& [key, value] : a.keywords) context_.set(*rest, Value::text(key), value);
    define("kwargs", rest);
  } else if (!a.keywords.empty()) {
    context_.fail(what + " takes no keyword argument " + repr(a.keywords.front().first));
  }
  const size_t taken = std::min(n, a.positional.size());
  std::vector<Value> rest(a.positional.begin() + static_cast<std::ptrdiff_t>(taken), a.positional.end());
  if (macro.takes_rest) {
    define("varargs", context_.list(std::move(rest), Sequence::Kind::Tuple));
  } else if (!rest.empty()) {
    context_.fail(what + " takes at most " + std::to_string(n) + " arguments, not " +
                  std::to_string(a.positional.size()));
  }
  for (size_t i = 0; i < n; ++i) {
    const Parameter& p = macro.parameters[i];
    if (given[i]) continue;
    define(p.name, p.initial ? evaluate(*p.initial)
                             : Value::undefined("parameter " + repr(p.name) + " was not provided"));
  }
  std::string out;
  execute(macro.body, out);
  context_.line = line;
  return context_.text(std::move(out));
}

// ---- Expressions

Value Renderer::evaluate(const Expr& e) {
  using Kind = Expr::Kind;
  const Context::Level level(context_);
  context_.charge(1);
  context_.line = e.line;
  switch (e.kind) {
    case Kind::Constant:
      return e.value;
    case Kind::Name:
      return name(e);
    case Kind::List:
      return context_.list(evaluate_all(e.parts));
    case Kind::Tuple:
      return context_.list(evaluate_all(e.parts), Sequence::Kind::Tuple);
    case Kind::Dict:
      return dict(e);
    case Kind::Attribute:
      return context_.attribute(evaluate(*e.parts[0]), e.name);
    case Kind::Item: {
      const Value object = evaluate(*e.parts[0]);
      return context_.item(object, evaluate(*e.parts[1]));
    }
    case Kind::Slice: {
      std::vector<Value> parts = evaluate_all(e.parts);
      return context_.slice(parts[0], parts[1], parts[2], parts[3]);
    }
    case Kind::Call:
      return call(e);
    case Kind::Filter:
      return filter(e, evaluate(*e.parts[0]));
    case Kind::Test: {
      const Value subject = evaluate(*e.parts[0]);
      CallArguments a = arguments(e.arguments);
      context_.line = e.line;
      return e.test(context_, subject, a);
    }
    case Kind::Not:
      return !evaluate(*e.parts[0]).is_true();
    case Kind::And: {
      Value left = evaluate(*e.parts[0]);
      return left.is_true() ? evaluate(*e.parts[1]) : left;
    }
    case Kind::Or: {
      Value left = evaluate(*e.parts[0]);
      return left.is_true() ? left : evaluate(*e.parts[1]);
    }
    case Kind::Negate:
      return context_.negate(evaluate(*e.parts[0]));
    case Kind::Plus: {
      const Value v = evaluate(*e.parts[0]);
      if (v.is_undefined()) context_.fail_undefined(v);
      if (!v.is_number()) context_.fail(std::string("'+' is not possible with '") + v.type_name() + "'");
      return v.is_bool() ? Value(v.integer()) : v;
    }
    case Kind::Binary: {
      const Value left = evaluate(*e.parts[0]);
      const Value right = evaluate(*e.parts[1]);
      context_.line = e.line;
      return context_.binary(e.operators[0], left, right);
    }
    case Kind::Compare:
      return compare(e);
    case Kind::Concat:
      return concatenation(e);
    case Kind::Conditional:
      if (evaluate(*e.parts[0]).is_true()) return evaluate(*e.parts[1]);
      if (e.parts[2]) return evaluate(*e.parts[2]);
      return Value::undefined("the inline if evaluated to false and has no else");
  }
  return {};
}

Value Renderer::name(const Expr& e) {
  for (const Scope* s = scope_; s; s = s->parent) {
    context_.charge(1);
    if (const auto found = s->names.find(e.name); found != s->names.end()) return found->second;
  }
  if (const Value* v = variables_.find(std::string_view(e.name))) return *v;
  if (const auto found = functions_.find(e.name); found != functions_.end()) return found->second;
  if (Object* function = find_function(context_, e.name)) {
    return functions_.emplace(e.name, Value(function)).first->second;
  }
  return Value::undefined(repr(e.name) + " is undefined");
}

Value Renderer::dict(const Expr& e) {
  auto out = std::make_shared<Dict>();
  for (size_t i = 0; i < e.parts.size(); i += 2) {
    Value key = evaluate(*e.parts[i]);
    context_.set(*out, std::move(key), evaluate(*e.parts[i + 1]));
  }
  return out;
}

Value Renderer::call(const Expr& e) {
  const Expr& callee = *e.parts[0];
  // Methods are called without becoming values in between.
  if (callee.kind == Expr::Kind::Attribute) {
    const Value self = evaluate(*callee.parts[0]);
    if (!self.object() && find_method(self, callee.name) == MethodAccess::Callable) {
      CallArguments a = arguments(e.arguments);
      context_.line = e.line;
      return call_method(context_, self, callee.name, a);
    }
    const Value function = context_.attribute(self, callee.name);
    CallArguments a = arguments(e.arguments);
    context_.line = e.line;
    return context_.call(function, a);
  }
  const Value function = evaluate(callee);
  CallArguments a = arguments(e.arguments);
  context_.line = e.line;
  return context_.call(function, a);
}

Value Renderer::compare(const Expr& e) {
  Value left = evaluate(*e.parts[0]);
  for (size_t i = 0; i < e.operators.size(); ++i) {
    Value right = evaluate(*e.parts[i + 1]);
    context_.line = e.line;
    if (!context_.compare(e.operators[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Renderer::concatenation(const Expr& e) {
  std::string out;
  for (const ExprPtr& part : e.parts) {
    context_.append_str(out, evaluate(*part));
    if (out.size() > context_.max_output()) context_.check_size(out.size());
  }
  return context_.text(std::move(out));
}

Value Renderer::filter(const Expr& e, const Value& input) {
  CallArguments a = arguments(e.arguments);
  context_.line = e.line;
  return e.filter(context_, input, a);
}

// The filters of {% filter … %} and {% set x | … %}, whose innermost one has no operand.
Value Renderer::filter_block(const ExprPtr& chain, Value text) {
  if (!chain) return text;
  const Context::Level level(context_);
  return filter(*chain, filter_block(chain->parts[0], std::move(text)));
}

std::vector<Value> Renderer::evaluate_all(const std::vector<ExprPtr>& parts) {
  std::vector<Value> out;
  for (const ExprPtr& part : parts) out.push_back(part ? evaluate(*part) : Value());
  return out;
}

CallArguments Renderer::arguments(const Arguments& a) {
  CallArguments out;
  out.positional = evaluate_all(a.positional);
  for (const auto& [name, value] : a.keywords) out.keywords.emplace_back(name, evaluate(*value));
  if (a.rest) {
    for (Value& v : context_.items(evaluate(*a.rest))) out.positional.push_back(std::move(v));
  }
  if (a.more_keywords) {
    const Value more = evaluate(*a.more_keywords);
    if (!more.dict()) context_.fail(std::string("** needs a mapping, not '") + more.type_name() + "'");
    for (const auto& [key, value] : more.dict()->entries) {
      if (!key.is_text()) context_.fail("keywords must be text");
      if (std::ranges::any_of(out.keywords, [&k = key](const auto& one) { return one.first == k.str(); })) {
        context_.fail("got two values for the keyword " + repr(key.str()));
      }
      out.keywords.emplace_back(key.str(), value);
    }
  }
  return out;
}

}  // namespace mllm::jinja
