#include "text/template.h"

#include <random>

#include "base/testing.h"
#include "text/template_strings.h"

using mllm::ChatTemplate;
using mllm::Json;

namespace {

std::string render(std::string_view source, std::string_view variables = "{}", int64_t time = 0) {
  return ChatTemplate(source).render(Json::parse(variables, "variables"), time);
}

std::string complaint(std::string_view source, std::string_view variables = "{}") {
  try {
    render(source, variables);
  } catch (const mllm::Error& e) {
    return e.what();
  }
  return "";
}

// A template of the usual kind, with most of what real ones use.
constexpr const char* kTemplate = R"({{- bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{%- macro turn(role, text='') -%}
<|{{ role }}|>
{{ text }}</s>
{% endmacro %}
{%- set ns = namespace(last=-1) %}
{%- for m in messages[::-1] if m.role == 'user' %}
    {%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- break %}
{%- endfor %}
{%- if system %}{{ turn('system', system) }}{% endif %}
{%- for m in messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate') }}
    {%- endif %}
    {{- turn(m.role, m.content ~ (' (last)' if loop.index0 == ns.last else '')) }}
    {%- for call in m.tool_calls or [] %}
        {{- call.function | tojson(indent=1) }}
    {%- endfor %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}
)";

constexpr const char* kConversation =
    R"({"bos_token": "<s>", "add_generation_prompt": true, "messages": [
        {"role": "system", "content": " Be brief. "},
        {"role": "user", "content": "Hi \u00e9"},
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1.0}}}]},
        {"role": "user", "content": "And?"}]})";

}  // namespace

TEST(renders_a_conversation) {
  CHECK_EQ(
      render(kTemplate, kConversation),
      std::string("<s><|system|>\nBe brief.</s>\n<|user|>\nHi é</s>\n<|assistant|>\n</s>\n"
                  "{\n \"name\": \"f\",\n \"arguments\": {\n  \"a\": 1.0\n }\n}<|user|>\nAnd? (last)</s>\n"
                  "<|assistant|>\n"));
}

TEST(trims_blocks_and_their_indentation) {
  CHECK_EQ(render("{% if true %}\n  a\n  {% endif %}\n b\n"), std::string("  a\n b"));
  CHECK_EQ(render("a  {{- 1 -}}  \n b"), std::string("a1b"));
}

TEST(prints_as_python_does) {
  CHECK_EQ(render("{{ [1, 1.0, 1e16, 'it\\'s', none, true, {'a': (1,)}] }}"),
           std::string("[1, 1.0, 1e+16, \"it's\", None, True, {'a': (1,)}]"));
}

TEST(complaints_name_the_line) {
  CHECK_EQ(complaint(kTemplate, R"({"messages": [{"role": "assistant", "content": "x"}]})"),
           std::string("chat template: line 20: roles must alternate"));
  CHECK_EQ(complaint("\n{{ x.y }}"), std::string("chat template: line 2: 'x' is undefined"));
  CHECK_EQ(complaint("{{ x | shout }}"),
           std::string("chat template: line 1: the filter \"shout\" is not supported"));
  CHECK_THROWS(render("{% if %}"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(render("{% extends 'x' %}"), MLLM_ERROR_UNSUPPORTED);
  CHECK_THROWS(render("{{ 1 / 0 }}"), MLLM_ERROR_INVALID_ARGUMENT);
  CHECK_THROWS(render("\xff"), MLLM_ERROR_FORMAT);
  CHECK_THROWS(render("x", "[]"), MLLM_ERROR_FORMAT);
}

TEST(time_is_the_caller_s) {
  constexpr const char* source = "{{ strftime_now('%d %b %Y %H:%M:%S') }}";
  CHECK_EQ(render(source, "{}", 1'721'999'109), std::string("26 Jul 2024 13:05:09"));
  CHECK_EQ(render(source, "{}", -1), std::string("31 Dec 1969 23:59:59"));
  CHECK_THROWS(render(source, "{}", INT64_MAX), MLLM_ERROR_INVALID_ARGUMENT);
}

TEST(bounds_time_memory_and_recursion) {
  for (const char* source :
       {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m() %}{{ caller() }}{% call m() %}{{ caller() }}{% endcall %}{% endmacro %}{% call m() "
        "%}{% endcall %}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
        "{% set n = namespace(s=[1]) %}{% for i in range(999) %}{% set n.s = [n.s] %}{% endfor %}",
        "{% set n = namespace() %}{% set n.a = n %}{{ n }}", "{{ [1] * 99999999 }}",
        "{{ 'a' * 9223372036854775807 }}", "{{ -9223372036854775807 - 2 }}",
        "{{ (-9223372036854775807 - 1) // -1 }}"}) {
    CHECK_THROWS(render(source), MLLM_ERROR_INVALID_ARGUMENT);
  }
  CHECK_THROWS(render("{{ " + std::string(100000, '(')), MLLM_ERROR_FORMAT);
  CHECK_THROWS(render("{{ " + std::string(100000, '(') + std::string(100000, ')') + " }}"),
               MLLM_ERROR_FORMAT);
}

// What a loop's condition refers to is gone when somebody asks a kept loop what comes next.
TEST(loops_may_be_kept) {
  CHECK_EQ(render("{% set ns = namespace() %}{% with w = 2 %}{% for i in [1, 2, 3] if i != w %}"
                  "{% set ns.loop = loop %}{% break %}{% endfor %}{% endwith %}"
                  "{% with a = 1, b = 2 %}{{ ns.loop.last }}{{ ns.loop.nextitem is defined }}{% endwith %}"),
           std::string("TrueFalse"));
}

// Whatever becomes of the source: a text, or an error.
TEST(survives_damaged_sources) {
  std::mt19937 random(7);
  const std::string source = kTemplate;
  const std::string noise = "{}%#()[]|.,'\"\\-+*:=~ \n0a\xc3\xa9";
  int rendered = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = source;
    for (uint32_t n = 1 + random() % 3; n > 0; --n) {
      const size_t at = random() % damaged.size();
      const size_t length = random() % 30;
      switch (random() % 4) {
        case 0:
          damaged.erase(at, length);
          break;
        case 1:
          damaged.insert(at, damaged.substr(random() % damaged.size(), length));
          break;
        case 2:
          damaged[at] = noise[random() % noise.size()];
          break;
        default:
          damaged.resize(at + 1);
      }
    }
    try {
      render(damaged, kConversation);
      ++rendered;
    } catch (const mllm::Error& e) {
      CHECK(std::string(e.what()).starts_with("chat template: "));
    }
  }
  CHECK(rendered > 100 && rendered < 2900);
}

TEST_MAIN()
