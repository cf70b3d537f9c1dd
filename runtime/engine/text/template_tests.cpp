// Tests: value is name(arguments).
#include <cmath>
#include <map>

#include "text/template_builtins.h"
#include "text/template_context.h"
#include "text/template_strings.h"

namespace mllm::jinja {
namespace {

using Question = bool (*)(Context&, const Value&);

// A test without arguments.
template <Question ask>
bool plain(Context& c, const Value& v, CallArguments& a) {
  if (!a.positional.empty() || !a.keywords.empty()) c.fail("this test takes no arguments");
  return ask(c, v);
}

template <Operator op>
bool comparison(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "the test", a, {"b"}, 1);
  return c.compare(op, v, p[0]);
}

bool is_defined(Context&, const Value& v) {
  return !v.is_undefined();
}
bool is_undefined(Context&, const Value& v) {
  return v.is_undefined();
}
bool is_none(Context&, const Value& v) {
  return v.is_none();
}
bool is_boolean(Context&, const Value& v) {
  return v.is_bool();
}
bool is_true(Context&, const Value& v) {
  return v.is_bool() && v.boolean();
}
bool is_false(Context&, const Value& v) {
  return v.is_bool() && !v.boolean();
}
bool is_integer(Context&, const Value& v) {
  return v.is_int();
}
bool is_float(Context&, const Value& v) {
  return v.is_float();
}
bool is_number(Context&, const Value& v) {
  return v.is_number();
}
bool is_string(Context&, const Value& v) {
  return v.is_text();
}
bool is_mapping(Context&, const Value& v) {
  return v.dict() != nullptr;
}
bool is_iterable(Context&, const Value& v) {
  return v.is_text() || v.sequence() || v.dict() || v.is_undefined();
}
bool is_sequence(Context&, const Value& v) {
  const Sequence* s = v.sequence();
  return v.is_text() || (s && s->has_items()) || v.dict() || v.is_undefined();
}
bool is_callable(Context&, const Value& v) {
  return v.is_undefined() || (v.object() && v.object()->is_callable());
}
bool is_escaped(Context&, const Value& v) {
  return v.is_markup();
}
bool is_lower_case(Context& c, const Value& v) {
  return is_lower(c.str(v));
}
bool is_upper_case(Context& c, const Value& v) {
  return is_upper(c.str(v));
}

bool is_multiple(Context& c, const Value& v, const Value& of, double remainder) {
  const Value rest = c.binary(Operator::Modulo, v, of);
  return rest.is_number() && rest.number() == remainder;
}
bool is_odd(Context& c, const Value& v) {
  return is_multiple(c, v, int64_t{2}, 1);
}
bool is_even(Context& c, const Value& v) {
  return is_multiple(c, v, int64_t{2}, 0);
}
bool is_divisible(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "divisibleby", a, {"num"}, 1);
  return is_multiple(c, v, p[0], 0);
}

bool is_in(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "in", a, {"seq"}, 1);
  return c.contains(p[0], v);
}

bool is_same_as(Context& c, const Value& v, CallArguments& a) {
  const Parameters p(c, "sameas", a, {"other"}, 1);
  return is_same(v, p[0]);
}

bool is_filter(Context&, const Value& v) {
  return v.is_text() && find_filter(v.str());
}

bool is_test(Context&, const Value& v) {
  return v.is_text() && find_test(v.str());
}

const std::map<std::string_view, Test> kTests = {
    {"!=", comparison<Operator::NotEqual>},
    {"<", comparison<Operator::Less>},
    {"<=", comparison<Operator::LessEqual>},
    {"==", comparison<Operator::Equal>},
    {">", comparison<Operator::Greater>},
    {">=", comparison<Operator::GreaterEqual>},
    {"boolean", plain<is_boolean>},
    {"callable", plain<is_callable>},
    {"defined", plain<is_defined>},
    {"divisibleby", is_divisible},
    {"eq", comparison<Operator::Equal>},
    {"equalto", comparison<Operator::Equal>},
    {"escaped", plain<is_escaped>},
    {"even", plain<is_even>},
    {"false", plain<is_false>},
    {"filter", plain<is_filter>},
    {"float", plain<is_float>},
    {"ge", comparison<Operator::GreaterEqual>},
    {"greaterthan", comparison<Operator::Greater>},
    {"gt", comparison<Operator::Greater>},
    {"in", is_in},
    {"integer", plain<is_integer>},
    {"iterable", plain<is_iterable>},
    {"le", comparison<Operator::LessEqual>},
    {"lessthan", comparison<Operator::Less>},
    {"lower", plain<is_lower_case>},
    {"lt", comparison<Operator::Less>},
    {"mapping", plain<is_mapping>},
    {"ne", comparison<Operator::NotEqual>},
    {"none", plain<is_none>},
    {"number", plain<is_number>},
    {"odd", plain<is_odd>},
    {"sameas", is_same_as},
    {"sequence", plain<is_sequence>},
    {"string", plain<is_string>},
    {"test", plain<is_test>},
    {"true", plain<is_true>},
    {"undefined", plain<is_undefined>},
    {"upper", plain<is_upper_case>},
};

}  // namespace

Test find_test(std::string_view name) {
  const auto found = kTests.find(name);
  return found == kTests.end() ? nullptr : found->second;
}

}  // namespace mllm::jinja
