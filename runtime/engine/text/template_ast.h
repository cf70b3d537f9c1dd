// A parsed template: statements and expressions, as the parser makes them and the renderer walks over them.
#ifndef MINDIR_LLM_TEXT_TEMPLATE_AST_H_
#define MINDIR_LLM_TEXT_TEMPLATE_AST_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "text/template_builtins.h"
#include "text/template_value.h"

namespace mllm::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

enum class Operator {
  Add,
  Subtract,
  Multiply,
  Divide,
  FloorDivide,
  Modulo,
  Power,
  Equal,
  NotEqual,
  Less,
  LessEqual,
  Greater,
  GreaterEqual,
  In,
  NotIn,
};

struct Arguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  ExprPtr rest;           // *rest
  ExprPtr more_keywords;  // **more_keywords
};

struct Expr {
  enum class Kind {
    Constant,     // value
    Name,         // name
    List,         // parts
    Tuple,        // parts
    Dict,         // parts: key, value, key, value …
    Attribute,    // parts[0].name
    Item,         // parts[0][parts[1]]
    Slice,        // parts[0][parts[1]:parts[2]:parts[3]], null where left out
    Call,         // parts[0](arguments)
    Filter,       // parts[0] | name(arguments); parts[0] is null in a filter block
    Test,         // parts[0] is name(arguments)
    Not,          // parts[0]
    And,          // parts[0] and parts[1]
    Or,           // parts[0] or parts[1]
    Negate,       // -parts[0]
    Plus,         // +parts[0]
    Binary,       // parts[0] operators[0] parts[1]
    Compare,      // parts[0] operators[0] parts[1] operators[1] parts[2] …
    Concat,       // parts ~ …
    Conditional,  // parts[1] if parts[0] else parts[2], which may be null
  };
  Kind kind;
  int line;
  int depth = 1;  // of the tree below
  std::string name;
  Value value;
  std::vector<ExprPtr> parts;
  std::vector<Operator> operators;
  Arguments arguments;
  Filter filter = nullptr;
  Test test = nullptr;
};

// What `for` and `set` assign to: a name, an attribute of a namespace, or several targets.
struct Target {
  std::string name;
  std::string attribute;        // "": the name itself
  std::vector<Target> several;  // where not empty, the value is taken apart
  bool is_tuple = false;
};

struct Statement;
using Body = std::vector<Statement>;

struct Parameter {
  std::string name;
  ExprPtr initial;  // null: none
};

struct Statement {
  enum class Kind {
    Text,      // text
    Output,    // {{ expression }}
    If,        // branches: condition (null: else) and body
    For,       // target in expression if condition: body, otherwise
    Set,       // target = expression
    SetBlock,  // target = body through the filters of expression (may be null)
    With,      // assignments, body
    Macro,     // text(parameters): body
    Call,      // expression (a call) with caller(parameters): body
    Filter,    // body through the filters of expression
    Scope,     // body with names of its own: {% generation %}
    Break,
    Continue,
  };
  Kind kind;
  int line;
  std::string text;
  ExprPtr expression;
  ExprPtr condition;
  Target target;
  std::vector<std::pair<ExprPtr, Body>> branches;
  std::vector<std::pair<Target, ExprPtr>> assignments;
  std::vector<Parameter> parameters;
  Body body;
  Body otherwise;
  bool takes_rest = false;      // a macro that mentions varargs
  bool takes_keywords = false;  // … kwargs
  bool takes_caller = false;    // … caller
};

}  // namespace mllm::jinja

#endif  // MINDIR_LLM_TEXT_TEMPLATE_AST_H_
