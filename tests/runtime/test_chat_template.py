"""The engine's chat templates against jinja2 under Hugging Face's settings."""

# ruff: noqa: E501 (a case a line)
from __future__ import annotations

import random
import sys
import unicodedata
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja_oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.runtime import BundleError, InvalidArgumentError, MindirLLMError, UnsupportedError
from mindir_llm.runtime.chat_template import ChatTemplate

FILES = [
    "Qwen-Qwen2.5-7B-Instruct.jinja",
    "Qwen-Qwen3-0.6B.jinja",
    "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja",
    "meta-llama-Llama-3.1-8B-Instruct.jinja",
    "meta-llama-Llama-3.2-3B-Instruct.jinja",
    "mistralai-Mistral-Nemo-Instruct-2407.jinja",
]


def engine(source: str, **variables: Any) -> str:
    messages = variables.pop("messages", [])
    return ChatTemplate(source).render(messages, now=jinja_oracle.NOW, **variables)


def check(source: str, **variables: Any) -> str | None:
    """Both give the same text, which is returned, or both fail."""
    variables.setdefault("messages", [])
    try:
        expected: str | None = jinja_oracle.render(source, **variables)
        reason = ""
    except Exception as error:
        expected, reason = None, str(error)
    try:
        found: str | None = engine(source, **variables)
    except MindirLLMError as error:
        found, reason = None, str(error)
    assert found == expected, f"{source!r} with {variables!r}: {reason}"
    return found


# -- real templates, drawn conversations

TEXT = st.text(max_size=12) | st.sampled_from(
    [
        "Hello",
        " padded \n",
        "<think>\na\n</think>\n\nb",
        "</think>x",
        "<tool_response>x</tool_response>",
        "{{ x }}",
    ]
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def record(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A dict in which, now and then, a field is missing."""
    kept = st.lists(st.sampled_from([*fields, "", "", ""]), max_size=1)
    return st.tuples(st.fixed_dictionaries(fields), kept).map(
        lambda pair: {key: value for key, value in pair[0].items() if key not in pair[1]}
    )


ARGUMENTS = st.dictionaries(st.sampled_from(["city", "unit", "é"]), JSON | TEXT, max_size=3)
CALL = record(
    id=st.sampled_from(["abcdefghi", "123456789", "short"]),
    type=st.just("function"),
    function=record(name=st.sampled_from(["weather", "code_interpreter"]), arguments=ARGUMENTS | TEXT),
)
MESSAGE = st.one_of(
    record(role=st.sampled_from(["user", "user", "assistant", "system", "tool", "nobody"]), content=TEXT),
    record(role=st.just("assistant"), content=TEXT, reasoning_content=TEXT | st.none()),
    record(
        role=st.just("assistant"), content=TEXT | st.none(), tool_calls=st.lists(CALL, max_size=2) | st.none()
    ),
    record(
        role=st.sampled_from(["tool", "ipython", "tool_results"]),
        content=TEXT | JSON | record(content=JSON),
        tool_call_id=st.sampled_from(["abcdefghi", "123456789"]),
    ),
)
TURNS = st.tuples(
    st.lists(record(role=st.just("system"), content=TEXT), max_size=1),
    st.lists(
        st.tuples(
            record(role=st.just("user"), content=TEXT), record(role=st.just("assistant"), content=TEXT)
        ),
        max_size=3,
    ),
    st.lists(record(role=st.just("user"), content=TEXT), min_size=1, max_size=1),
).map(lambda parts: [*parts[0], *(message for turn in parts[1] for message in turn), *parts[2]])
TOOL = record(
    type=st.just("function"),
    function=record(
        name=st.just("weather"),
        description=TEXT,
        parameters=st.fixed_dictionaries({"type": st.just("object"), "properties": JSON, "required": JSON}),
    ),
)
EXTRA = st.fixed_dictionaries(
    {},
    optional={
        "builtin_tools": st.lists(st.sampled_from(["code_interpreter", "brave_search"]), max_size=2),
        "custom_tools": st.lists(TOOL, max_size=1),
        "tools_in_user_message": st.booleans(),
        "date_string": TEXT,
        "enable_thinking": st.booleans(),
        "add_generation_prompt": st.booleans(),
        "bos_token": st.just("<s>"),
        "eos_token": st.just("</s>"),
    },
)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_real_templates(name: str, shared_data: Path, data: st.DataObject) -> None:
    source = (shared_data / "chat_templates" / name).read_text(encoding="utf-8")
    check(
        source,
        messages=data.draw(TURNS | st.lists(MESSAGE, max_size=6), label="messages"),
        tools=data.draw(st.none() | st.lists(TOOL, max_size=2), label="tools"),
        **data.draw(EXTRA, label="variables"),
    )


@pytest.mark.parametrize("name", FILES)
def test_real_templates_render_ordinary_conversations(name: str, shared_data: Path) -> None:
    """Drawn conversations may fail on both sides; these do not."""
    source = (shared_data / "chat_templates" / name).read_text(encoding="utf-8")
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "d\u2028", "parameters": {"a": [1, 2.5, None]}},
    }
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi <b> é 你好"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nHello!"},
        {"role": "user", "content": "And now?"},
    ]
    for tools in (None, [tool]):
        for add_generation_prompt in (False, True):
            text = check(
                source, messages=messages, tools=tools, add_generation_prompt=add_generation_prompt,
                bos_token="<s>", eos_token="</s>",
            )  # fmt: skip
            assert text is not None and "Hi <b> é 你好" in text


@pytest.mark.parametrize("name", FILES)
def test_mutated_templates_fail_or_render(name: str, shared_data: Path) -> None:
    """Pieces of a real template are cut, doubled, swapped and overwritten: an error or a text, never a crash."""
    source = (shared_data / "chat_templates" / name).read_text(encoding="utf-8")
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    chance = random.Random(name)
    noise = [*"{}%#()[]|.,'\"\\-+*:=~", "{{", "}}", "{%", "%}", "{#", "{% endif %}", "{% endfor %}", " if ", " not ", "in",
             "loop", "0", "9" * 30, "\0", "\r\n", "é", "\U0001f600", "{% raw %}", "{% for x in x %}", "|tojson", "[::-1]"]  # fmt: skip
    outcomes = set()
    for _ in range(300):
        text = source
        for _ in range(chance.randint(1, 3)):
            a, b = sorted(chance.randrange(len(text) + 1) for _ in range(2))
            b = min(b, a + chance.randint(0, 40))
            text = (
                text[:a]
                + chance.choice(["", text[a:b] * 2, text[a:b][::-1], chance.choice(noise)])
                + text[b:]
            )
        try:
            engine(text, messages=messages, tools=None, bos_token="<s>", add_generation_prompt=True)
            outcomes.add("text")
        except MindirLLMError as error:
            outcomes.add("error")
            assert "chat template: " in str(error) and "\n" not in str(error)
    assert outcomes == {"text", "error"}


# -- statements

STATEMENTS = {
    "trim": "{% if true %}\n  a\n  {% endif %}\n b \n{# c #}\n{{ 1 }}\n",
    "lstrip": "x\n   {% if true %} y {% endif %}  \n\t{# c #}z\n  {{ 2 }}",
    "plus": "a\n  {%+ if true +%}\nb{%+ endif %}\n {#+ c +#}\nd",
    "minus": "a \n {%- if true -%} \n b \n {%- endif -%} \n c {{- 1 -}} \n d {#- x -#} e",
    "minus at non-breaking space": "a\u00a0\u2003{{- 1 -}}\u3000b",
    "newlines": "a\r\nb\rc\n{{ 'x\r\ny' }}\r\n",
    "last newline": "a\n\n",
    "raw": "{% raw %}\n{{ x }} {% if %}\n{% endraw %}\ny {%- raw -%} {# {{ {%- endraw -%} z",
    "raw lstrip": "  {% raw %} a\n   {% endraw %}\n b",
    "braces": "{{ {'a': {'b': 1}}['a']['b'] }} { { } } %} }} #}",
    "comment": "a{# {{ x }} {% if %} #}b",
    "for": "{% for x in [1, 2, 3] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}"
    "{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.depth }}"
    "{{ loop.cycle('a', 'b') }}{{ loop.changed(x // 2) }} {% endfor %}",
    "for else": "{% for x in [] %}{{ x }}{% else %}none{% endfor %}{% for x in [1] %}{{ x }}{% else %}no{% endfor %}",
    "for if": "{% for x in range(6) if x is odd %}{{ loop.index }}:{{ x }}/{{ loop.length }}{{ loop.last }} {% endfor %}",
    "for if changed by the body": "{% set ns = namespace(on=true) %}{% for x in range(9) if ns.on %}{{ x }}"
    "{% if x == 3 %}{% set ns.on = false %}{% endif %}{% endfor %}",
    "for if, looking ahead": "{% set ns = namespace(on=true) %}{% for x in range(9) if ns.on %}{{ x }}{{ loop.last }}"
    "{% if x == 3 %}{% set ns.on = false %}{% endif %}{% endfor %}",
    "for unpacks": "{% for k, v in {'a': 1, 'b': 2}.items() %}{{ k }}={{ v }};{% endfor %}"
    "{% for a, (b, c) in [(1, (2, 3))] %}{{ a }}{{ b }}{{ c }}{% endfor %}",
    "for unpacks too few": "{% for a, b in [(1,)] %}{{ a }}{% endfor %}",
    "for over text": "{% for c in 'aé😀' %}[{{ c }}]{% endfor %}",
    "for over a mapping": "{% for k in d %}{{ k }}{% endfor %}",
    "for over nothing": "{% for x in missing %}{{ x }}{% else %}-{% endfor %}",
    "for over none": "{% for x in none %}{% endfor %}",
    "for over a number": "{% for x in 3 %}{% endfor %}",
    "for over a tuple": "{% for x in 1, 2 %}{{ x }}{% endfor %}",
    "break, continue": "{% for x in range(9) %}{% if x == 2 %}{% continue %}{% endif %}{% if x > 4 %}{% break %}{% endif %}"
    "{% for y in range(3) %}{% if y %}{% break %}{% endif %}{{ y }}{% endfor %}{{ x }}{% else %}e{% endfor %}",
    "break outside": "{% break %}",
    "set does not leave a loop": "{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "set in if": "{% if true %}{% set x = 5 %}{% endif %}{{ x }}",
    "set a loop's own": "{% for i in [1, 2] %}{% if i == 1 %}{% set z = 9 %}{% endif %}[{{ z }}]{% endfor %}[{{ z }}]",
    "set hides a variable": "{% set d = 1 %}{{ d }}",
    "set several": "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}{% set t = 1, %}{{ t }}",
    "set block": "{% set x %}a{{ 1 }}{% set y = 3 %}{% endset %}{{ x }}|{{ y }}{% set u | upper | trim %} é {% endset %}{{ u }}",
    "namespace": "{% set ns = namespace(n=0, s='') %}{% for x in l %}{% set ns.n = ns.n + x %}{% set ns.s = ns.s ~ x %}"
    "{% endfor %}{{ ns.n }}{{ ns.s }}{{ ns['n'] }}{{ ns.zz }}{{ ns.zz is defined }}",
    "no namespace": "{% set x = {} %}{% set x.a = 1 %}",
    "with": "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% set c = 3 %}{% endwith %}{{ a }}{{ b }}{{ c }}",
    "macro": "{% macro m(a, b=2, c='x') %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}{{ m(b=1, a=0) }}{{ m() }}",
    "macro sees globals": "{% set g = 1 %}{% macro m() %}{{ g }}{{ d.a }}{% set g = 7 %}{{ g }}{% endmacro %}{% set g = 2 %}{{ m() }}{{ g }}",
    "macro does not see its caller's loop": "{% macro m() %}{{ i }}{% endmacro %}{% for i in [1] %}{{ m() }}{% endfor %}",
    "macro in a loop": "{% for i in [1, 2] %}{% macro m() %}{{ i }}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}",
    "macro recursion": "{% macro m(n) %}{{ n }}{% if n %}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(5) }}",
    "macro with too many": "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}",
    "macro with unknown": "{% macro m(a) %}{% endmacro %}{{ m(b=2) }}",
    "macro rest": "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k='v') }}{{ m(1) }}",
    "macro defaults see parameters": "{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}{{ m(1, 2) }}",
    "macro result is text": "{% macro m() %} a {% endmacro %}{{ m()|trim|upper }}{{ m() is string }}{{ m().strip() }}",
    "star arguments": "{% macro m(a, b, c=0) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1, 2], **{'c': 3}) }}{{ m(*l) }}",
    "call": "{% macro m(x) %}<{{ caller() }}{{ x }}>{% endmacro %}{% set k = 4 %}{% call m(1) %}body{{ k }}{% endcall %}",
    "call with arguments": "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b=3, c=4) m() %}{{ a }}{{ b }}{{ c }}{% endcall %}",
    "call of a macro without caller": "{% macro m() %}{% endmacro %}{% call m() %}{% endcall %}",
    "caller is undefined": "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "filter block": "{% filter upper | replace('A', 'b') %}a{{ x }}{% endfilter %}",
    "generation": "{% for i in l %}{% generation %}a{{ i }}{% set q = 1 %}{% endgeneration %}{{ q }}{% endfor %}",
    "if": "{% if 0 %}a{% elif '' %}b{% elif [] %}c{% else %}d{% endif %}{% if x %}{% elif missing %}{% endif %}",
    "output of tuples": "{{ 1, 'a' }}{{ (1,) }}{{ () }}",
    "empty output": "{{ }}",
    "raise": "{{ raise_exception('no ' ~ x) }}",
    "date": "{{ strftime_now('%d %b %Y, %H:%M:%S %A %j') }}",
    "overridden function": "{{ range is defined }}{{ x }}{% set range = 5 %}{{ range }}",
    "joiner, cycler": "{% set j = joiner('|') %}{% for i in l %}{{ j() }}{{ i }}{% endfor %}{% set c = cycler('a', 'b') %}"
    "{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}",
    "a loop kept for later": "{% set ns = namespace() %}{% with w = 2 %}{% for i in l if i != w %}{% set ns.l = loop %}"
    "{% break %}{% endfor %}{% endwith %}{{ ns.l.index }}{{ ns.l.first }}{{ ns.l.previtem is defined }}",
    "generators are used up": "{% set g = l|select('odd') %}{{ g|list }}{{ g|list }}{% set h = l|map('string') %}{{ h|first }}{{ h|join }}",
    "unknown tag": "{% frobnicate %}",
    "colon": "{% if true: %}a{% else: %}b{% endif %}",
    "test at a block's end": "{% if x is defined %}a{% endif %}{% if x is not none and x is number %}b{% endif %}",
    "loop in loop": "{% for a in l %}{% set outer = loop %}{% for b in l %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "two names in is": "{{ 1 is odd is true }}",
}  # fmt: skip
VARIABLES: dict[str, Any] = {
    "x": 1,
    "d": {"a": 1, "b": [1, 2], "c d": None, "é": {"items": 3}},
    "l": [3, 1, 2],
    "s": "The quick brown Fox, é 你好 ß ŉ ǆ",
    "m": [{"role": "user", "n": 2}, {"role": "assistant", "n": 1}, {"n": 3, "role": "user"}],
    "f": -2.5,
    "t": True,
    "n": None,
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_statements(name: str) -> None:
    check(STATEMENTS[name], **VARIABLES)


# -- expressions

EXPRESSIONS = (
    """
1+2*3, 7//2, -7//2, 7%-3, -7%3, 7/2, 2**10, 2**-1, 7.5//2, -7.5%2, 7.5%-2, 2**3**2, -2**2, 1e300*10, 0.1+0.2
1.0, 1e16, 1e15, 1.5e-5, 0.0001, 123456789012345.678, 1e22, 100.0, 5e-324, 1.7976931348623157e308, -0.0
'a' ~ 1 ~ none ~ true ~ [1,'x'] ~ {'k': 1.0} ~ missing, 'a' ~ 1 + 2
[1, 'it\\'s', "q\\"", none, true, {'a': (1,)}, (), 'both\\'"', '\\n\\t\\x00\\x7f\\xa0\\u200b\\u2028\\U0001F600\\u0378']
'abc'[::-1], 'abc'[1:], 'abc'[-2:], 'héllo'[1], l[::2], l[5:], 'abc'[:1], l[::-1], s[2:9:3], s[::-1], l[-9:9], s[-3:]
l['a':], l[:missing]
l[::0]
x[1:]
'a,b,,c'.split(','), ' a  b '.split(), 'a b c'.rsplit(' ', 1), 'a b c'.split(none, 1), 'a b c'.rsplit(none, 1), ''.split(), ''.split(',')
'abcabc'.replace('b','x'), 'abcabc'.replace('b','x',1), 'ab'.replace('', '-'), 'ab'|replace('b', 1), 'aaa'|replace('a','b',2)
x is defined, d is mapping, d is iterable, 'x' is string, 1 is number, true is number, none is none, missing is undefined
l is sequence, l is iterable, l is mapping, 5 is iterable, 'a' is sequence, missing is sequence, missing is iterable, d.items() is sequence
1 is integer, true is integer, 1.0 is integer, 1.0 is float, true is boolean, 1 is boolean, true is true, 1 is true, 0 is false
3 is odd, 4 is even, 9 is divisibleby 3, 9 is divisibleby(2), 1 is eq 1, 1 is equalto 1.0, 2 is gt 1, 1 is in [1], 'a' is lower, 'A' is upper, 'a1' is lower
1 is sameas 1, none is sameas none, l is sameas l, [1] is sameas [1], range is callable, x is callable, 'x' is escaped, ('x'|e) is escaped
d.items(), d.keys(), d.values(), d|items|list, d.get('a'), d.get('zz'), d.get('zz', 3), d.items()|length, {}.items()
d.a, d['a'], d.missing, d['missing'], d.items is defined, d.pop, l.append, d['items'] is defined, d['é'].items is defined
d.pop('a')
l.append(1)
l|join(', '), l|first, l|last, l|length, l|sum, l|max, l|min, l|sort, l|sort(reverse=true), m|sort(attribute='n'), m|sort(attribute='role,n')
m|max(attribute='n'), m|min(attribute='n'), []|max, []|first, []|last, m|sum('n'), m|sum(attribute='n', start=10), missing|last
l|map('string')|list, l|select('odd')|list, l|reject('gt', 1)|list, m|selectattr('role','equalto','user')|map(attribute='n')|join('-')
m|rejectattr('role','in',['user'])|list, m|selectattr('zz')|list, m|selectattr('zz', 'defined')|list, l|select|list, [0, 1, '']|reject|list
m|map(attribute='zz', default='-')|list, m|map('length')|list, ['a', 'B']|map('upper')|join, l|map('default', 3)|list, [[1]]|map(attribute='0')|list
l|map('tojson')|join, ['a b']|map('replace', ' ', '_')|list
'hello world-foo (bar) {x} [y] <z'|title, 'hELLO wORLD'|capitalize, ' x '|trim, 'xxaxx'|trim('x'), 'ß'|upper, 'ΑΣ ΑΣΑ Σ'|lower, s|upper, s|lower, s|title, s|capitalize
s.upper(), s.lower(), s.title(), s.capitalize(), "they're bill's".title(), 'ﬁx ǆ'.title(), 'İ'|lower, 'ŉ'|upper
'a\\nb\\n\\nc'|indent, 'a\\nb'|indent(2, true), 'a\\n\\nb'|indent(width='> ', blank=true), ''|indent, 'a\\r\\nb\\x0bc\\u2028d'|indent(1)
5|indent
d|tojson, d|tojson(indent=2), l|tojson(separators=(',', ':')), 'é\\u2028<\\x7f\\x01'|tojson, 'é😀\\x7f'|tojson(ensure_ascii=true), {'b':1,'a':[]}|tojson(sort_keys=true, indent=4)
[]|tojson(indent=2), {}|tojson(2), [1.0, 1e16, -0.0, 1e-7]|tojson, {1: 2, none: 3, true: 4, 1.5: 5}|tojson, (1, 2)|tojson, [[], {}]|tojson(indent=0), [1]|tojson(indent='--')
missing|tojson
d.items()|tojson
(l|select)|tojson
{(1,): 2}|tojson
1 if false, (1 if false) is undefined, missing|default('z'), ''|default('z', true), none|default('q'), none|d('q', boolean=true), 1 if x else 2 if n else 3
missing, missing|length, missing|upper, missing is defined, not missing, missing == missing, missing != 1, missing|list, missing|join, missing in [missing]
missing + 1
missing.foo
missing['foo']
missing()
missing < 1
-missing
x()
none.foo.bar
'%s is %d and %5.2f %%' % ('x', 3, 2.5), '%s' % x, '%r' % 'a', '%(a)s' % d, '%05d|%-5d|%+d' % (42, 42, 42), '%x' % 255, '%.2s' % 'abc', '%s'|format('k'), '%s%s'|format(1, 2), '%(q)s'|format(q=1)
'%d' % 'a'
'%s %s' % 'a'
'%s' % (1, 2)
'{} {}'.format(1, 'a'), '{1}{0}'.format(1, 2), '{a}{{}}'.format(a=3)
'{}'.format()
1 < 2 < 3, 1 < 3 < 2, 'a' in 'abc', 'x' not in d, 2 in l, 1 == 1.0, 'a' == 1, [1] == [1], (1,) == [1], d == d, {'a': 1, 'b': 2} == {'b': 2, 'a': 1}, [1, 2] < [1, 3], 'a' < 'b', true == 1, 1 <= 1.0 >= 0
1 < 'a'
1 in 'abc'
1 in 5
none in none
[] < 1
[] in {}
range(3), range(3)|list, range(10, 0, -3)|list, range(5)[1:3], range(5)[::-1]|list, range(1, 3), range(0, 9, 2), range(3)[1], range(0)|list, 2 in range(3), range(3) == range(3)
range(100001)
range(0, 5, 0)
'x'|safe + '<', '<'|e, ('<'|e) ~ '>', '<' + ('>'|e), '&"\\''|escape, ('<'|e)|upper, [('<'|e)], ('<'|e) * 2, '<'|safe|e, ('a<'|safe).strip('a') + '<'
'1_000'|int, '42.7'|int, 'x'|int(7), '0x1f'|int(base=16), 3.99|int, '1e3'|float, true|int, ' 12 '|int, '-5'|int, ''|int, none|int(3), 'ff'|int(base=16), [1]|int(2), '1__0'|int, 'inf'|int(4), '012'|int
'2.5'|float, 'x'|float(1.5), 'nan'|float, 'inf'|float, true|float, '1_0.5'|float, none|float, '.5'|float, '5.'|float, '-1e400'|float, '0x10'|float
2.5|round, 3.5|round, -2.5|round, 2.675|round(2), 2.1|round(1, 'ceil'), 2.19|round(1, 'floor'), 7|round, 7|round(2), 1234.5678|round(3), true|round
'x'|round
2.5|round(1, 'up')
-5|abs, -2.5|abs, true|abs
'a'|abs
namespace(a=1).a, dict(a=1, b=2), dict([('a', 1)]), dict(d, x=1)|length, joiner(', ')() ~ 'x'
'aXbX'.partition('X'), 'aXbX'.rpartition('X'), 'ab'.partition('X'), 'x'.center(5) ~ '|', 'xy'.center(5) ~ '|', 'x'.center(4) ~ '|', '7'.zfill(3), '-7'.zfill(4), 'a'.ljust(3, '.'), 'a'.rjust(3), 'x'|center(4)
l|batch(2)|list, l|batch(2, 0)|list, d|dictsort, {'B': 1, 'a': 2}|dictsort, {'B': 1, 'a': 2}|dictsort(true), {'b': 1, 'a': 2}|dictsort(by='value', reverse=true), ['b','A','a']|unique|list, ['b','A','c']|sort, ['b','A','c']|sort(case_sensitive=true), [1, 1.0, true]|unique|list
-true, +5, +true, not 1, 1 and 0 or 3, 0 or '' or 5, not 1 == 2, 1 and missing
"\\x41\\u00e9\\q\\101\\
x\\é", 'a' 'b', 0x1F, 0b101, 0o17, 1_000, 1.5e3, 1e3, 'tab\\there', "\\\\n"
012
1.e5
l|reverse|list, 'abc'|reverse, d|reverse|list, l[0], l[-1], l[10], l['x'], d[0], none.foo, (5).bar, l[true], l.0, m.0.role, l[1.0]
'Hello'.startswith('He'), 'Hello'.endswith(('x','lo')), 'Hello'.find('l'), 'Hello'.rfind('l'), 'Hello'.index('l', 3), 'Hello'.count('l'), 'Hello'.startswith('l', 2), 'Hello'.endswith('e', 0, 2), 'Hello'.startswith('', 9), 'a'.isupper(), 'x'.islower(), ' '.isspace(), '12'.isdigit(), 'a1'.isalnum(), 'éa'.find('a')
'Hello'.index('z')
' x '.strip() ~ '|' ~ ' x '.lstrip() ~ '|' ~ ' x '.rstrip() ~ '|', 'xxaxx'.strip('x'), '\\u00a0x\\u3000\\x1c'.strip(), 'ab'.removeprefix('a'), 'ab'.removesuffix('b'), 'ab'.removeprefix('x')
'a\\nb\\r\\nc\\x0bd\\u2028e'.splitlines(), 'a\\n'.splitlines(true), ''.splitlines(), ', '.join(['a', 'b']), '-'.join('abc'), 'ab' * 3, 3 * 'ab', [1] * 2, 'a' * -1, [1] + [2], (1,) + (2,)
', '.join([1])
'a' + 1
[1] + (2,)
'a' * 2.0
1 / 0
1 // 0
1 % 0.0
0 ** -1
'a'|nosuchfilter
x is nosuchtest
d.values()|list|tojson, d.keys()|join, l.index(1), l.count(3), (1, 2).index(2), 'a'|string, 5|string, l|string, l.copy(), d.copy() == d
l.index(9)
d|length, ''|length, 'é😀'|length, d|list, 'ab'|list, d|first, 'ab'|last, d.items()|first, (l|select)|first
5|length
5|list
5|first
(l|select)|last
(l|select)|length
d|items|length
'a' is in 'abc', 'a' is not in 'abc', x is not defined, not x is defined, x is defined and x, l | length > 2, - 1 | abs, 'a' ~ 'b' | upper
{'a': 1,}, [1, 2,], {1: 'x', 'y': none}, {}, {'a': 1}['a'], {'a': 1, 'a': 2}, {1: 'a', true: 'b', 1.0: 'c'}
{[]: 1}
(1, 2)[0], ((1)), (1, [2, (3,)]), 'a'[0][0][0]
'a'.b.c
loop is defined, nobody is defined
x.__class__ is defined
""".strip()
    .replace("\\\n", "\\\\n")
    .splitlines()
)  # noqa: RUF100


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_expressions(expression: str) -> None:
    check("{{ [" + expression + "] }}", **VARIABLES)


def test_every_character() -> None:
    """Unicode properties, of the characters that every supported Python knows."""
    known = unicodedata.ucd_3_2_0
    points = [chr(i) for i in range(sys.maxunicode + 1) if known.category(chr(i)) not in ("Cn", "Cs", "Co")]
    assert len(points) > 90_000
    whole = "{{ [a, a.upper(), a.lower(), a.title(), a.split(), a.splitlines(), a|title, a|tojson(true)] }}"
    check(whole, a="".join(points))
    check(whole, a="a Σ".join(points))
    cased = [
        c for c in points if (c.lower(), c.upper(), c.title()) != (c, c, c) or c.isupper() or c.islower()
    ]
    check("{% for c in l %}{{ c.capitalize() }}{{ c.isupper() }}{{ c.islower() }}{% endfor %}", l=cased)


def test_classes_of_every_character() -> None:
    """Which of them are whole runs of letters, digits and so on; two cuts, so that neighbours cannot hide."""
    ask = "{% for c in l %}{{ 'anudm'[loop.index0 % 5] if c.NAME() else '-' }}{% endfor %}"
    known = unicodedata.ucd_3_2_0
    points = [chr(i) for i in range(sys.maxunicode + 1) if known.category(chr(i)) not in ("Cn", "Cs", "Co")]
    numbers = [c for c in points if c.isnumeric()]
    letters = [c for c in points if not c.isnumeric() and unicodedata.category(c) != "Lo"][::3]
    ideographs = [c for c in points if unicodedata.category(c) == "Lo"][::41]
    assert len(numbers) > 500 and len(letters) > 2000 and len(ideographs) > 1500
    for name in ("isalpha", "isalnum", "isdecimal", "isdigit", "isnumeric"):
        source = ask.replace("NAME", name)
        found = check(source, l=[*numbers, *letters, *ideographs])
        assert found is not None and "-" in found and found.strip("-")


@settings(max_examples=100, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", categories=["L", "N", "M", "Z", "S"]), max_size=6))
def test_classes_of_text(text: str) -> None:
    if all(unicodedata.ucd_3_2_0.category(c) != "Cn" for c in text):
        check("{{ [s.isalpha(), s.isalnum(), s.isdecimal(), s.isdigit(), s.isnumeric()] }}", s=text)


MORE_VARIABLES = {
    "zero": 0, "two": 2, "less": -1, "a": "a", "empty": "", "words": "Ab c", "form": "%s", "no": [], "nil": {}
}  # fmt: skip
# Variables only: jinja2 folds constants, and what cannot be sliced then counts as undefined instead of failing.
ATOMS = st.sampled_from(
    [
        *VARIABLES,
        *MORE_VARIABLES,
        "missing",
        "d.a",
        "d['b']",
        "m[0]",
        "range(3)",
        "l[0]",
        "(l[0], s)",
        "[x, f]",
        "{s: f}",
    ]
)

POSTFIXES = st.sampled_from(
    ["|length", "|upper", "|lower", "|title", "|trim", "|list", "|first", "|last", "|join(',')", "|string", "|int",
     "|float", "|default('q')", "|default('q', true)", "|tojson", "|tojson(indent=1)", "|reverse|list", "|sort", "|unique|list", "|sum",
     "|max", "|min", "|abs", "|round", "|e", "|safe", "|items|list", "|dictsort", "|batch(2)|list", "|indent(1)",
     "|map('string')|list", "|select|list", "|reject('none')|list", "|map(attribute='n')|list", "|selectattr('n')|list",
     "|replace('a', 'b')", "|capitalize", "|center(5)", "[0]", "[-1]", "[1:]", "[::-1]", "['a']", ".a", ".items()", ".keys()|list",
     ".get('a')", ".split()", ".split('a')", ".strip()", ".upper()", ".startswith('a')", ".title()", ".values()|list",
     " is defined", " is none", " is string", " is mapping", " is iterable", " is sequence", " is number", " is odd", " is lower",
     " is in l", " is eq 1"]
)  # fmt: skip
OPERATORS = st.sampled_from(
    ["+", "-", "*", "/", "//", "%", "~", "==", "!=", "<", ">", "<=", ">=", "in", "not in", "and", "or"]
)
DRAWN = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, POSTFIXES).map(lambda p: f"({p[0]}){p[1]}"),
        st.tuples(inner, OPERATORS, inner).map(lambda p: f"({p[0]}) {p[1]} ({p[2]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]}) if ({p[1]}) else ({p[2]})"),
        st.tuples(st.sampled_from(["not ", "-", "+"]), inner).map(lambda p: f"{p[0]}({p[1]})"),
    ),
    max_leaves=5,
)


@given(expression=DRAWN)
@settings(max_examples=600, deadline=None, derandomize=True, database=None)
def test_drawn_expressions(expression: str) -> None:
    check("{{ " + expression + " }}", **VARIABLES, **MORE_VARIABLES)


@given(text=st.text(max_size=20), other=st.text(max_size=3))
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_methods_of_any_text(text: str, other: str) -> None:
    check(
        "{{ [a|trim, a.strip(b), a.split(), a.splitlines(), a[::-1], a[1:-1], a|length, a|title, a.find(b), a.count(b),"
        " a.replace(b, 'x'), a|list, a.partition(b or '-'), a|tojson(ensure_ascii=true), a|indent, a.startswith(b)] }}{{ a }}",
        a=text,
        b=other,
    )


@given(value=JSON, indent=st.none() | st.integers(-1, 3), ascii_only=st.booleans(), sort_keys=st.booleans())
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_json_of_any_value(value: Any, indent: int | None, ascii_only: bool, sort_keys: bool) -> None:
    check(
        "{{ v }}{{ v|tojson(indent=i, ensure_ascii=a, sort_keys=s) }}{{ v|string|length }}",
        v=value, i=indent, a=ascii_only, s=sort_keys,
    )  # fmt: skip


# -- limits, and what is said about errors


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nested too deep"),
        ("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "takes too long"),
        (
            "{% set n = namespace(s='ab') %}{% for i in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
            "16 MiB",
        ),
        (
            "{% set n = namespace(s=[1]) %}{% for i in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
            "too long",
        ),
        (
            "{% set n = namespace(s=[1]) %}{% for i in range(999) %}{% set n.s = [n.s] %}{% endfor %}",
            "more than 100",
        ),
        (
            "{% set n = namespace(s=1) %}{% for i in range(50) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
            "too long|16 MiB",
        ),
        ("{% set n = namespace() %}{% set n.a = [n] %}{{ n }}", "nested too deep"),
        ("{{ 'x' * 99999999 }}", "16 MiB"),
        ("{{ 'x' * 9223372036854775807 }}", "too long"),
        ("{{ [1] * 99999999 }}", "too long"),
        ("{{ 'a'.center(99999999999) }}", "16 MiB"),
        ("{{ 'a'.center(4611686018427387904, '😀') }}", "16 MiB"),
        ("{{ range(0, 6, 2)[::4611686018427387904] }}", "64 bits"),
        ("{{ ('ab' * 9999)|replace('', 'x' * 9999) }}", "16 MiB"),
        ("{{ '%999999d' % 1 }}", "too large"),
        ("{{ 9223372036854775807 + 1 }}", "64 bits"),
        ("{{ 99999999999999999999 }}", "64 bits"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nested more than"),
        ("{{ " + "[" * 5000 + "]" * 5000 + " }}", "nested more than"),
        ("{{ " + "not " * 5000 + "1 }}", "nested more than"),
        ("{{ " + "-" * 5000 + "1 }}", "nested more than"),
        ("{{ x" + ".a" * 5000 + " }}", "nested more than"),
        ("{{ 1" + "|string" * 5000 + " }}", "nested more than"),
        ("{{ 1" + "+1" * 5000 + " }}", "nested more than"),
        ("{% if 1 %}" * 5000, "nested more than"),
        ("{% set " + "(" * 5000 + "a" + ")" * 5000 + " = 1 %}", "nested more than"),
    ],
)
def test_limits(source: str, message: str) -> None:
    with pytest.raises(MindirLLMError, match=rf"^chat template: line 1: .*({message})"):
        engine(source)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("a\n{% if x %}\n{{ y }", BundleError, "line 3: unexpected '}'"),
        ("a\n{% if x %}", BundleError, 'line 2: "endif" is missing'),
        ("\n\n{{ x | shout }}", UnsupportedError, 'line 3: the filter "shout" is not supported'),
        ("{{ 1 is purple }}", UnsupportedError, 'line 1: the test "purple" is not supported'),
        ("{% include 'x' %}", UnsupportedError, 'the tag "include" is not supported'),
        ("{% for x in y recursive %}{% endfor %}", UnsupportedError, "a recursive loop is not supported"),
        ("{{ 'a'.encode() }}", UnsupportedError, "line 1: the method str.encode is not supported"),
        (
            "a\n{{ raise_exception('roles must\nalternate') }}",
            InvalidArgumentError,
            "line 2: roles must alternate$",
        ),
        ("{{ messages[0].content }}", InvalidArgumentError, "line 1: .* has no attribute '0'"),
        ("{{ nobody.content }}", InvalidArgumentError, "line 1: 'nobody' is undefined"),
        ("{{ 'a }}", BundleError, "line 1: a string is not closed"),
        ("{# a", BundleError, "line 1: a comment is not closed"),
        ("{% raw %}", BundleError, "line 1: a raw block is not closed"),
        ("{% set 1 = 2 %}", BundleError, "expected a name"),
        ("{{ § }}", BundleError, "unexpected character '§'"),
        ("\udcff", InvalidArgumentError, "lone surrogate"),
    ],
)
def test_errors_name_line_and_reason(source: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match="chat template: .*" + message):
        engine(source)


def test_variables_must_be_json() -> None:
    template = ChatTemplate("{{ x }}")
    for value in (object(), {1, 2}, float("nan")):
        with pytest.raises(InvalidArgumentError, match="must be JSON"):
            template.render([], x=value)
    with pytest.raises(MindirLLMError, match="surrogate"):
        template.render([], x="\ud800")
    assert template.render([], x="a\0b") == "a\0b"
    template.close()
    with pytest.raises(InvalidArgumentError, match="closed"):
        template.render([])


def test_the_time_is_the_caller_s() -> None:
    template = ChatTemplate("{{ strftime_now('%Y-%m-%d %H:%M:%S %a %j') }}")
    for when in (
        datetime(1999, 12, 31, 23, 59, 59),
        datetime(2000, 2, 29),
        datetime(1969, 7, 20),
        datetime(2400, 3, 1),
    ):
        assert template.render([], now=when) == when.strftime("%Y-%m-%d %H:%M:%S %a %j")
    assert template.render([])[:4] in {str(datetime.now().year), str(datetime.now().year - 1)}
