#include "text/template_parser.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <set>

#include "base/error.h"
#include "text/template_lexer.h"
#include "text/template_strings.h"

namespace mllm::jinja {
namespace {

constexpr int kMaxDepth = 200;  // of an expression's tree
constexpr int kMaxBlocks = 64;  // of statements in each other

using Kind = Token::Kind;
using Words = std::initializer_list<std::string_view>;

bool is_one_of(std::string_view word, Words words) {
  return std::ranges::find(words, word) != words.end();
}

class Parser {
 public:
  explicit Parser(std::string_view source) : tokens_(tokenize(source)) {}

  Body run() { return statements({}); }

 private:
  // Counts how deep the parser itself is, which follows the source's nesting.
  struct Nesting {
    Nesting(Parser& p, int& depth, int limit, const char* what) : depth_(depth) {
      if (++depth_ > limit) {
        --depth_;
        p.fail(std::string(what) + " are nested more than " + std::to_string(limit) + " deep");
      }
    }
    ~Nesting() { --depth_; }
    int& depth_;
  };

  [[noreturn]] void fail(const std::string& why) const { fail_template(now().line, why); }
  [[noreturn]] void unsupported(int line, const std::string& what) const {
    fail_unsupported("chat template: line " + std::to_string(line) + ": " + what + " is not supported");
  }

  const Token& now() const { return tokens_[at_]; }
  const Token& after() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  Token take() {
    Token token = now();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }

  bool at_operator(std::string_view text) const { return now().kind == Kind::Operator && now().text == text; }
  bool at_name(std::string_view text) const { return now().kind == Kind::Name && now().text == text; }
  bool at_name(Words words) const { return now().kind == Kind::Name && is_one_of(now().text, words); }

  bool skip_operator(std::string_view text) {
    if (!at_operator(text)) return false;
    take();
    return true;
  }
  bool skip_name(std::string_view text) {
    if (!at_name(text)) return false;
    take();
    return true;
  }

  std::string described() const {
    switch (now().kind) {
      case Kind::End:
        return "the end of the template";
      case Kind::OutputEnd:
        return "\"}}\"";
      case Kind::BlockEnd:
        return "\"%}\"";
      case Kind::String:
        return repr(now().text);
      case Kind::Data:
      case Kind::OutputBegin:
      case Kind::BlockBegin:
        return "text";
      default:
        return "\"" + now().text + "\"";
    }
  }

  void expect_operator(std::string_view text) {
    if (!skip_operator(text)) fail("expected \"" + std::string(text) + "\", found " + described());
  }
  void expect(Kind kind, const char* what) {
    if (now().kind != kind) fail(std::string("expected ") + what + ", found " + described());
    take();
  }
  std::string expect_name() {
    if (now().kind != Kind::Name || (now().text[0] >= '0' && now().text[0] <= '9')) {
      fail("expected a name, found " + described());
    }
    return take().text;
  }

  // ---- Statements

  // Until the template's end, or until a block begins with one of `ends`, which is not taken.
  Body statements(Words ends) {
    const Nesting nesting(*this, blocks_, kMaxBlocks, "statements");
    Body body;
    while (true) {
      const int line = now().line;
      switch (now().kind) {
        case Kind::End:
          if (ends.size()) fail("\"" + std::string(*(ends.end() - 1)) + "\" is missing");
          return body;
        case Kind::Data: {
          Statement& text = add(body, Statement::Kind::Text, line);
          text.text = take().text;
          break;
        }
        case Kind::OutputBegin: {
          take();
          Statement& output = add(body, Statement::Kind::Output, line);
          output.expression = tuple(true, {});
          expect(Kind::OutputEnd, "\"}}\"");
          break;
        }
        default:
          take();  // BlockBegin
          if (now().kind == Kind::Name && is_one_of(now().text, ends)) return body;
          statement(body);
          expect(Kind::BlockEnd, "\"%}\"");
      }
    }
  }

  static Statement& add(Body& body, Statement::Kind kind, int line) {
    Statement s{};
    s.kind = kind;
    s.line = line;
    body.push_back(std::move(s));
    return body.back();
  }

  // The body of a block, between the end of its first tag and the word that ends it.
  Body block(Words ends) {
    skip_operator(":");
    expect(Kind::BlockEnd, "\"%}\"");
    return statements(ends);
  }
  Body last_block(std::string_view end) {
    Body body = block({end});
    take();
    return body;
  }

  void statement(Body& body) {
    if (now().kind != Kind::Name) fail("expected a tag's name, found " + described());
    const Token tag = take();
    const int line = tag.line;
    if (tag.text == "if") {
      if_statement(add(body, Statement::Kind::If, line));
    } else if (tag.text == "for") {
      for_statement(add(body, Statement::Kind::For, line));
    } else if (tag.text == "set") {
      set_statement(add(body, Statement::Kind::Set, line));
    } else if (tag.text == "with") {
      Statement& with = add(body, Statement::Kind::With, line);
      while (now().kind != Kind::BlockEnd && now().kind != Kind::End) {
        if (!with.assignments.empty()) expect_operator(",");
        Target target = assign_target(false, {});
        expect_operator("=");
        with.assignments.emplace_back(std::move(target), expression(true));
      }
      with.body = last_block("endwith");
    } else if (tag.text == "macro") {
      macro_statement(add(body, Statement::Kind::Macro, line));
    } else if (tag.text == "call") {
      Statement& call = add(body, Statement::Kind::Call, line);
      if (at_operator("(")) call.parameters = signature();
      call.expression = expression(true);
      if (call.expression->kind != Expr::Kind::Call) fail("a call block needs a call");
      macro_body(call, "endcall");
    } else if (tag.text == "filter") {
      Statement& filter = add(body, Statement::Kind::Filter, line);
      filter.expression = filter_chain(nullptr, true);
      filter.body = last_block("endfilter");
    } else if (tag.text == "generation") {
      Statement& scope = add(body, Statement::Kind::Scope, line);
      const int loops = std::exchange(loops_, 0);
      scope.body = last_block("endgeneration");
      loops_ = loops;
    } else if (tag.text == "break" || tag.text == "continue") {
      if (loops_ == 0) fail_template(line, "\"" + tag.text + "\" outside of a loop");
      add(body, tag.text == "break" ? Statement::Kind::Break : Statement::Kind::Continue, line);
    } else if (is_one_of(tag.text, {"block", "extends", "print", "include", "from", "import", "autoescape",
                                    "do", "trans", "debug"})) {
      unsupported(line, "the tag \"" + tag.text + "\"");
    } else {
      fail_template(line, "unknown tag \"" + tag.text + "\"");
    }
  }

  void if_statement(Statement& s) {
    while (true) {
      ExprPtr condition = tuple(false, {});
      Body body = block({"elif", "else", "endif"});
      s.branches.emplace_back(std::move(condition), std::move(body));
      const std::string word = take().text;
      if (word == "elif") continue;
      if (word == "else") s.branches.emplace_back(nullptr, last_block("endif"));
      return;
    }
  }

  void for_statement(Statement& s) {
    s.target = assign_target(false, {"in"});
    if (mentions(s.target, "loop")) fail_template(s.line, "a loop cannot assign to \"loop\"");
    if (!skip_name("in")) fail("expected \"in\", found " + described());
    s.expression = tuple(false, {"recursive"});
    if (skip_name("if")) s.condition = expression(true);
    if (at_name("recursive")) unsupported(s.line, "a recursive loop");
    ++loops_;
    s.body = block({"endfor", "else"});
    --loops_;
    if (take().text == "else") s.otherwise = last_block("endfor");
  }

  static bool mentions(const Target& target, std::string_view name) {
    return (target.name == name && target.attribute.empty()) ||
           std::ranges::any_of(target.several, [&](const Target& t) { return mentions(t, name); });
  }

  void set_statement(Statement& s) {
    s.target = assign_target(true, {});
    if (loops_ && mentions(s.target, "loop"))
      fail_template(s.line, "\"loop\" cannot be set inside of a loop");
    if (skip_operator("=")) {
      s.expression = tuple(true, {});
      return;
    }
    s.kind = Statement::Kind::SetBlock;
    if (at_operator("|")) s.expression = filter_chain(nullptr, false);
    s.body = last_block("endset");
  }

  void macro_statement(Statement& s) {
    s.text = assignable_name();
    s.parameters = signature();
    macro_body(s, "endmacro");
  }

  void macro_body(Statement& s, std::string_view end) {
    const std::set<std::string> outer = std::exchange(special_names_, {});
    const int loops = std::exchange(loops_, 0);
    s.body = last_block(end);
    loops_ = loops;
    s.takes_rest = special_names_.contains("varargs");
    s.takes_keywords = special_names_.contains("kwargs");
    s.takes_caller = special_names_.contains("caller");
    for (const Parameter& p : s.parameters) {
      if (p.name == "caller" && !p.initial)
        fail_template(s.line, "the parameter \"caller\" needs a default value");
    }
    special_names_ = outer;
  }

  std::vector<Parameter> signature() {
    std::vector<Parameter> out;
    expect_operator("(");
    while (!at_operator(")")) {
      if (!out.empty()) expect_operator(",");
      std::string name = assignable_name();
      if (std::ranges::any_of(out, [&](const Parameter& p) { return p.name == name; })) {
        fail("the parameter \"" + name + "\" is there twice");
      }
      ExprPtr initial;
      if (skip_operator("=")) {
        initial = expression(true);
      } else if (!out.empty() && out.back().initial) {
        fail("the parameter \"" + name + "\" without a default follows one that has one");
      }
      out.push_back({std::move(name), std::move(initial)});
    }
    take();
    return out;
  }

  static bool is_constant_name(std::string_view name) {
    return is_one_of(name, {"true", "false", "none", "True", "False", "None"});
  }

  std::string assignable_name() {
    std::string name = expect_name();
    if (is_constant_name(name)) fail("cannot assign to \"" + name + "\"");
    return name;
  }

  Target assign_target(bool with_attributes, Words ends) {
    std::vector<Target> targets;
    bool is_tuple = false;
    while (true) {
      if (!targets.empty() && (at_tuple_end(ends) || at_operator("="))) break;
      targets.push_back(one_target(with_attributes));
      if (!skip_operator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple) return std::move(targets[0]);
    Target out;
    out.is_tuple = true;
    out.several = std::move(targets);
    return out;
  }

  Target one_target(bool with_attributes) {
    const Nesting nesting(*this, depth_, kMaxDepth, "brackets");
    Target out;
    if (skip_operator("(")) {
      out = assign_target(with_attributes, {});
      expect_operator(")");
      return out;
    }
    out.name = assignable_name();
    if (with_attributes && skip_operator(".")) out.attribute = expect_name();
    return out;
  }

  // ---- Expressions

  ExprPtr make(Expr::Kind kind, int line) const {
    auto e = std::make_unique<Expr>();
    e->kind = kind;
    e->line = line;
    return e;
  }

  void adopt(Expr& e, ExprPtr part) const {
    if (part) e.depth = std::max(e.depth, part->depth + 1);
    if (e.depth > kMaxDepth) {
      fail_template(e.line, "an expression is nested more than " + std::to_string(kMaxDepth) + " deep");
    }
    e.parts.push_back(std::move(part));
  }

  ExprPtr make(Expr::Kind kind, int line, ExprPtr a, ExprPtr b = nullptr) const {
    ExprPtr e = make(kind, line);
    adopt(*e, std::move(a));
    if (b) adopt(*e, std::move(b));
    return e;
  }

  ExprPtr binary(Operator op, int line, ExprPtr a, ExprPtr b) const {
    ExprPtr e = make(Expr::Kind::Binary, line, std::move(a), std::move(b));
    e->operators.push_back(op);
    return e;
  }

  bool at_tuple_end(Words ends) const {
    return now().kind == Kind::OutputEnd || now().kind == Kind::BlockEnd || at_operator(")") || at_name(ends);
  }

  ExprPtr tuple(bool with_condition, Words ends, bool in_parentheses = false) {
    const int line = now().line;
    std::vector<ExprPtr> parts;
    bool is_tuple = false;
    while (!at_tuple_end(ends)) {
      parts.push_back(expression(with_condition));
      if (!skip_operator(",")) break;
      is_tuple = true;
    }
    if (!is_tuple && !parts.empty()) return std::move(parts[0]);
    if (!is_tuple && !in_parentheses) fail("expected an expression, found " + described());
    ExprPtr e = make(Expr::Kind::Tuple, line);
    for (ExprPtr& part : parts) adopt(*e, std::move(part));
    return e;
  }

  ExprPtr expression(bool with_condition) {
    const Nesting nesting(*this, depth_, kMaxDepth, "expressions");
    ExprPtr e = or_expression();
    while (with_condition && at_name("if")) {
      const int line = take().line;
      ExprPtr condition = or_expression();
      ExprPtr otherwise = skip_name("else") ? expression(true) : nullptr;
      e = make(Expr::Kind::Conditional, line, std::move(condition), std::move(e));
      adopt(*e, std::move(otherwise));
    }
    return e;
  }

  ExprPtr or_expression() {
    ExprPtr e = and_expression();
    while (at_name("or")) {
      const int line = take().line;
      e = make(Expr::Kind::Or, line, std::move(e), and_expression());
    }
    return e;
  }

  ExprPtr and_expression() {
    ExprPtr e = not_expression();
    while (at_name("and")) {
      const int line = take().line;
      e = make(Expr::Kind::And, line, std::move(e), not_expression());
    }
    return e;
  }

  ExprPtr not_expression() {
    const Nesting nesting(*this, depth_, kMaxDepth, "expressions");
    if (!at_name("not")) return comparison();
    const int line = take().line;
    return make(Expr::Kind::Not, line, not_expression());
  }

  ExprPtr comparison() {
    static const std::map<std::string_view, Operator> kinds = {
        {"==", Operator::Equal},     {"!=", Operator::NotEqual}, {"<", Operator::Less},
        {"<=", Operator::LessEqual}, {">", Operator::Greater},   {">=", Operator::GreaterEqual},
    };
    const int line = now().line;
    ExprPtr first = sum();
    ExprPtr e;
    while (true) {
      Operator op;
      if (const auto found = now().kind == Kind::Operator ? kinds.find(now().text) : kinds.end();
          found != kinds.end()) {
        op = found->second;
        take();
      } else if (skip_name("in")) {
        op = Operator::In;
      } else if (at_name("not") && after().kind == Kind::Name && after().text == "in") {
        take();
        take();
        op = Operator::NotIn;
      } else {
        return e ? std::move(e) : std::move(first);
      }
      if (!e) e = make(Expr::Kind::Compare, line, std::move(first));
      e->operators.push_back(op);
      adopt(*e, sum());
    }
  }

  ExprPtr sum() {
    ExprPtr e = concatenation();
    while (at_operator("+") || at_operator("-")) {
      const Token token = take();
      e = binary(token.text == "+" ? Operator::Add : Operator::Subtract, token.line, std::move(e),
                 concatenation());
    }
    return e;
  }

  ExprPtr concatenation() {
    const int line = now().line;
    ExprPtr first = product();
    if (!at_operator("~")) return first;
    ExprPtr e = make(Expr::Kind::Concat, line, std::move(first));
    while (skip_operator("~")) adopt(*e, product());
    return e;
  }

  ExprPtr product() {
    static const std::map<std::string_view, Operator> kinds = {{"*", Operator::Multiply},
                                                               {"/", Operator::Divide},
                                                               {"//", Operator::FloorDivide},
                                                               {"%", Operator::Modulo}};
    ExprPtr e = power();
    while (now().kind == Kind::Operator && kinds.contains(now().text)) {
      const Token token = take();
      e = binary(kinds.at(token.text), token.line, std::move(e), power());
    }
    return e;
  }

  ExprPtr power() {
    ExprPtr e = unary(true);
    while (at_operator("**")) {
      const int line = take().line;
      e = binary(Operator::Power, line, std::move(e), unary(true));
    }
    return e;
  }

  ExprPtr unary(bool with_filter) {
    const Nesting nesting(*this, depth_, kMaxDepth, "expressions");
    ExprPtr e;
    if (at_operator("-") || at_operator("+")) {
      const Token token = take();
      e = make(token.text == "-" ? Expr::Kind::Negate : Expr::Kind::Plus, token.line, unary(false));
    } else {
      e = primary();
    }
    e = postfix(std::move(e));
    return with_filter ? filters_and_tests(std::move(e)) : std::move(e);
  }

  ExprPtr primary() {
    const int line = now().line;
    ExprPtr e;
    switch (now().kind) {
      case Kind::Name:
        if (is_constant_name(now().text)) {
          e = make(Expr::Kind::Constant, line);
          const char first = static_cast<char>(take().text[0] | 0x20);
          if (first != 'n') e->value = first == 't';
          return e;
        }
        e = make(Expr::Kind::Name, line);
        e->name = expect_name();
        if (is_one_of(e->name, {"varargs", "kwargs", "caller"})) special_names_.insert(e->name);
        return e;
      case Kind::String: {
        e = make(Expr::Kind::Constant, line);
        std::string text;
        while (now().kind == Kind::String) text += take().text;
        e->value = Value::text(std::move(text));
        return e;
      }
      case Kind::Integer:
        e = make(Expr::Kind::Constant, line);
        e->value = take().integer;
        return e;
      case Kind::Float:
        e = make(Expr::Kind::Constant, line);
        e->value = take().number;
        return e;
      default:
        break;
    }
    if (skip_operator("(")) {
      e = tuple(true, {}, true);
      expect_operator(")");
      return e;
    }
    if (skip_operator("[")) {
      e = make(Expr::Kind::List, line);
      while (!at_operator("]")) {
        adopt(*e, expression(true));
        if (!at_operator("]")) expect_operator(",");
      }
      take();
      return e;
    }
    if (skip_operator("{")) {
      e = make(Expr::Kind::Dict, line);
      while (!at_operator("}")) {
        adopt(*e, expression(true));
        expect_operator(":");
        adopt(*e, expression(true));
        if (!at_operator("}")) expect_operator(",");
      }
      take();
      return e;
    }
    fail("unexpected " + described());
  }

  ExprPtr postfix(ExprPtr e) {
    while (true) {
      if (at_operator(".") || at_operator("[")) {
        e = subscript(std::move(e));
      } else if (at_operator("(")) {
        e = call(std::move(e));
      } else {
        return e;
      }
    }
  }

  ExprPtr call(ExprPtr callee) {
    ExprPtr e = make(Expr::Kind::Call, now().line, std::move(callee));
    arguments(*e);
    return e;
  }

  ExprPtr filters_and_tests(ExprPtr e) {
    while (true) {
      if (at_operator("|")) {
        e = filter_chain(std::move(e), false);
      } else if (at_name("is")) {
        e = test(std::move(e));
      } else if (at_operator("(")) {
        e = call(std::move(e));
      } else {
        return e;
      }
    }
  }

  ExprPtr subscript(ExprPtr e) {
    const Token token = take();
    if (token.text == ".") {
      if (now().kind == Kind::Integer) {
        ExprPtr index = make(Expr::Kind::Constant, token.line);
        index->value = take().integer;
        return make(Expr::Kind::Item, token.line, std::move(e), std::move(index));
      }
      ExprPtr out = make(Expr::Kind::Attribute, token.line, std::move(e));
      out->name = expect_name();
      return out;
    }
    ExprPtr parts[3];
    bool is_slice = at_operator(":");
    if (!is_slice) parts[0] = expression(true);
    for (int i = 1; i < 3 && skip_operator(":"); ++i) {
      is_slice = true;
      if (!at_operator(":") && !at_operator("]")) parts[i] = expression(true);
    }
    if (at_operator(",")) unsupported(token.line, "an index of several parts");
    expect_operator("]");
    if (!is_slice) return make(Expr::Kind::Item, token.line, std::move(e), std::move(parts[0]));
    ExprPtr out = make(Expr::Kind::Slice, token.line, std::move(e));
    for (ExprPtr& part : parts) adopt(*out, std::move(part));
    return out;
  }

  // "(…)" of a call, a filter or a test.
  void arguments(Expr& e) {
    Arguments& a = e.arguments;
    expect_operator("(");
    const auto check = [&](bool holds) {
      if (!holds) fail("arguments in an order that is not allowed");
    };
    const auto parse_one = [&] {
      ExprPtr part = expression(true);
      e.depth = std::max(e.depth, part->depth + 1);
      return part;
    };
    bool needs_comma = false;
    while (!at_operator(")")) {
      if (needs_comma) {
        expect_operator(",");
        if (at_operator(")")) break;
      }
      needs_comma = true;
      if (skip_operator("*")) {
        check(!a.rest && !a.more_keywords);
        a.rest = parse_one();
      } else if (skip_operator("**")) {
        check(!a.more_keywords);
        a.more_keywords = parse_one();
      } else if (now().kind == Kind::Name && after().kind == Kind::Operator && after().text == "=") {
        check(!a.more_keywords);
        std::string name = expect_name();
        take();
        for (const auto& k : a.keywords) {
          if (k.first == name) fail("the argument \"" + name + "\" is there twice");
        }
        a.keywords.emplace_back(std::move(name), parse_one());
      } else {
        check(!a.rest && !a.more_keywords && a.keywords.empty());
        a.positional.push_back(parse_one());
      }
    }
    take();
    if (e.depth > kMaxDepth) fail("an expression is nested more than " + std::to_string(kMaxDepth) + " deep");
  }

  // `starts`: the first filter's name comes without "|", as in {% filter upper %}.
  ExprPtr filter_chain(ExprPtr e, bool starts) {
    while (starts || skip_operator("|")) {
      starts = false;
      ExprPtr out = make(Expr::Kind::Filter, now().line);
      adopt(*out, std::move(e));
      out->name = expect_name();
      out->filter = find_filter(out->name);
      if (!out->filter) unsupported(out->line, "the filter \"" + out->name + "\"");
      if (at_operator("(")) arguments(*out);
      e = std::move(out);
    }
    return e;
  }

  ExprPtr test(ExprPtr e) {
    const int line = take().line;
    const bool negated = skip_name("not");
    ExprPtr out = make(Expr::Kind::Test, line, std::move(e));
    out->name = expect_name();
    out->test = find_test(out->name);
    if (!out->test) unsupported(line, "the test \"" + out->name + "\"");
    if (at_operator("(")) {
      arguments(*out);
    } else if ((is_one_value(now().kind) || at_operator("[") || at_operator("{")) &&
               !at_name({"else", "or", "and"})) {
      if (at_name("is")) fail("tests cannot follow each other; use \"and\"");
      ExprPtr argument = postfix(primary());
      out->depth = std::max(out->depth, argument->depth + 1);
      out->arguments.positional.push_back(std::move(argument));
    }
    return negated ? make(Expr::Kind::Not, line, std::move(out)) : std::move(out);
  }

  static bool is_one_value(Kind kind) {
    return kind == Kind::Name || kind == Kind::String || kind == Kind::Integer || kind == Kind::Float;
  }

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int blocks_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // around the statement, within its macro
  std::set<std::string> special_names_;
};

}  // namespace

Body parse(std::string_view source) {
  return Parser(source).run();
}

}  // namespace mllm::jinja
