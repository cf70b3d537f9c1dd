"""JSON schemas as grammars: texts drawn from masks are valid, valid documents are accepted, others refused.

The schemas lie in schemas.jsonl, with examples that jsonschema itself is asked about first.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from grammar_tools import DEMO, accepts, accepts_tokens, random_text
from jsonschema import Draft202012Validator

from mindir_llm.runtime import EngineTokenizer, Grammar, GrammarError

CASES = [json.loads(line) for line in (Path(__file__).parent / "schemas.jsonl").read_text().splitlines()]
LAYOUTS: list[dict[str, Any]] = [{}, {"separators": (",", ":")}, {"indent": 2}, {"indent": "\t"}]


@cache
def opened(path: Path) -> EngineTokenizer:
    return EngineTokenizer(path)


@pytest.fixture(params=["demo", "llama2", "llama3", "qwen2"])
def tokenizer(request: pytest.FixtureRequest) -> EngineTokenizer:
    if request.param == "demo":
        return opened(DEMO)
    return opened(request.getfixturevalue("shared_data") / "tokenizers" / request.param)


def validator(schema: Any) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def compiled(schema: Any, tokenizer: EngineTokenizer | None = None) -> Grammar:
    return Grammar(tokenizer or opened(DEMO), "json_schema", json.dumps(schema))


def documents(value: Any) -> list[str]:
    return [json.dumps(value, ensure_ascii=False, **layout) for layout in LAYOUTS]


def test_there_are_enough_schemas() -> None:
    assert len(CASES) >= 100
    assert len({case["name"] for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_examples(case: dict[str, Any]) -> None:
    oracle, grammar = validator(case["schema"]), compiled(case["schema"])
    for value in case["valid"]:
        assert oracle.is_valid(value), f"the example {value!r} is none"
        for text in documents(value):
            assert accepts(grammar, text), text
    for value in case["invalid"]:
        assert not oracle.is_valid(value), f"the example {value!r} is none"
        for text in documents(value):
            assert not accepts(grammar, text), text


def test_drawn_texts_are_valid(tokenizer: EngineTokenizer) -> None:
    rng = np.random.default_rng(7)
    for case in CASES:
        oracle, grammar = validator(case["schema"]), compiled(case["schema"], tokenizer)
        examples = [text for value in case["valid"] for text in documents(value)]
        for _ in range(2 if tokenizer.vocab_size < 100_000 else 1):
            text = random_text(tokenizer, grammar, rng, examples)
            errors = [error.message for error in oracle.iter_errors(json.loads(text))]
            assert not errors, (case["name"], text, errors)


def test_examples_token_by_token(tokenizer: EngineTokenizer) -> None:
    for case in CASES:
        grammar = compiled(case["schema"], tokenizer)
        for value in case["valid"]:
            for text in documents(value)[:3:2]:
                # Unknown characters cannot be written by a tokenizer without byte fallback.
                if tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text:
                    assert accepts_tokens(tokenizer, grammar, text), (case["name"], text)


UNSUPPORTED: list[tuple[str, Any, str]] = [
    ("unique items", {"type": "array", "uniqueItems": True}, "#/uniqueItems: uniqueItems is not supported"),
    ("not", {"type": "object", "properties": {"a": {"not": {}}}}, '#/properties/a/not: the keyword "not"'),
    ("if", {"if": {"type": "string"}, "then": {"minLength": 1}}, '#/if: the keyword "if"'),
    ("contains", {"type": "array", "contains": {"type": "integer"}}, '#/contains: the keyword "contains"'),
    ("dependent", {"dependentRequired": {"a": ["b"]}}, '"dependentRequired" is not supported'),
    ("unevaluated", {"unevaluatedProperties": False}, '"unevaluatedProperties" is not supported'),
    ("a typing error", {"type": "object", "propertys": {}}, '"propertys" is not supported'),
    ("format", {"type": "string", "format": "colour"}, '#/format: the format "colour" is not supported'),
    ("remote", {"$ref": "other.json#/a"}, "#/$ref: only references within the schema"),
    ("dynamic", {"$dynamicRef": "#a"}, '"$dynamicRef" is not supported'),
    (
        "fractional multiple",
        {"type": "number", "multipleOf": 0.01},
        "#/multipleOf: multipleOf is supported for whole",
    ),
    ("lookahead", {"type": "string", "pattern": "^(?=a)"}, "lookahead and lookbehind are not supported"),
    ("back reference", {"type": "string", "pattern": "(a)\\1"}, "\\1 is not supported"),
    ("word boundary", {"type": "string", "pattern": "\\bx"}, "\\b is not supported"),
    ("inner anchor", {"type": "string", "pattern": "(^a|b)"}, "^ stands only at the beginning"),
    (
        "overlapping oneOf",
        {"oneOf": [{"type": "integer"}, {"type": "number"}]},
        "#/oneOf: a value of alternative 0",
    ),
    (
        "many distinct names",
        {"type": "object", "minProperties": 3},
        "#/minProperties: minProperties beyond one",
    ),
    ("huge count", {"type": "string", "maxLength": 10**9}, "#/maxLength: counts above 1000000"),
]
INVALID: list[tuple[str, Any, str]] = [
    ("no schema", 5, "schema #: expected a schema"),
    ("type name", {"type": "int"}, "#/type: expected null, boolean, integer"),
    ("required", {"required": "a"}, "#/required: expected a list"),
    ("required name", {"required": [1]}, "#/required/0: expected a string"),
    ("empty enum", {"enum": []}, "#/enum: expected at least one"),
    ("negative length", {"type": "string", "minLength": -1}, "#/minLength: expected a whole number"),
    ("bound", {"type": "number", "minimum": "0"}, "#/minimum: expected a number"),
    ("dangling", {"$ref": "#/$defs/x"}, '#/$ref: there is nothing at "#/$defs/x"'),
    ("circle", {"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#"}}}, "refers to itself"),
    ("pattern", {"type": "string", "pattern": "a("}, 'pattern "a(" at character 3: a ( is not closed'),
    ("impossible", {"type": "integer", "minimum": 2, "maximum": 1}, "matches no text"),
    ("false", False, "matches no text"),
    (
        "endless",
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}, "minItems": 1}},
        },
        "matches no text",
    ),
]


@pytest.mark.parametrize(
    ("name", "schema", "message"), UNSUPPORTED + INVALID, ids=lambda value: str(value)[:30]
)
def test_what_cannot_be_held_is_an_error(name: str, schema: Any, message: str) -> None:
    with pytest.raises(GrammarError) as error:
        compiled(schema)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_schema_that_is_no_json() -> None:
    with pytest.raises(GrammarError, match=r"schema: not valid JSON: .* \(at byte 9\)"):
        Grammar(opened(DEMO), "json_schema", '{"type": oops}')


def test_numbers_at_their_bounds() -> None:
    """Doubles that are read near a bound, as they are written, on both sides of it."""
    rng = np.random.default_rng(2)
    for low, high in ((0, 1), (-2.5, 3.25), (0.1, 0.30000000000000004), (-1000, -999.5), (7, 8)):
        for keyword, least, most in (("minimum", low, None), ("maximum", None, high), ("both", low, high)):
            bounds = {"minimum": low, "maximum": high}
            schema = {"type": "number", **(bounds if keyword == "both" else {keyword: bounds[keyword]})}
            strict = {"exclusive" + key.capitalize(): bound for key, bound in list(schema.items())[1:]}
            inclusive, exclusive = compiled(schema), compiled({"type": "number", **strict})
            near = [
                bound + step * side
                for bound in (low, high)
                for step in (0, 0.1, 0.25, 1e-3, 1)
                for side in (1, -1)
            ]
            near += list(rng.uniform(low - 1, high + 1, size=20).round(rng.integers(1, 9)))
            for value in map(float, near):
                text = f"{value:.12f}".rstrip("0").rstrip(".")
                number = float(text)
                inside = (least is None or number >= least) and (most is None or number <= most)
                strictly = (least is None or number > least) and (most is None or number < most)
                assert accepts(inclusive, text) == inside, (schema, text)
                assert accepts(exclusive, text) == strictly, (strict, text)


def test_other_dialects() -> None:
    """OpenAPI's nullable and draft 4's exclusive bounds, which jsonschema does not read so."""
    nullable = compiled({"type": "string", "nullable": True, "maxLength": 3})
    assert accepts(nullable, "null") and accepts(nullable, '"abc"') and not accepts(nullable, '"abcd"')
    exclusive = compiled({"type": "integer", "minimum": 3, "exclusiveMinimum": True, "maximum": 7})
    assert [n for n in range(10) if accepts(exclusive, str(n))] == [4, 5, 6, 7]
    items = compiled({"type": "array", "items": [{"const": 1}], "additionalItems": {"const": 2}})
    assert accepts(items, "[1, 2, 2]") and not accepts(items, "[2]")


def test_any_object() -> None:
    grammar = Grammar(opened(DEMO), "json_object")
    deep: Any = 1
    for level in range(13):
        deep = {"inner": deep} if level % 2 == 0 else [deep]
    for value in ({}, {"a": [1, 2.5e3, None, {"b": "c"}]}, {"é": {"😀": []}}, deep):
        for text in documents(value):
            assert accepts(grammar, text)
    assert not accepts(grammar, json.dumps({"x": deep}))
    for text in (
        "[]",
        "1",
        "",
        '{"a":}',
        '{"a":1,}',
        "{'a':1}",
        '{"a":1}}',
        '{"a":01}',
        '{"a":"\t"}',
        "{a:1}",
    ):
        assert not accepts(grammar, text)


def test_blanks_are_bounded() -> None:
    grammar = compiled({"type": "array", "items": {"type": "integer"}})
    assert accepts(grammar, "[ 1, 2 ]") and accepts(grammar, "[\n\t1,\n\t2\n]")
    for text in ("[  1]", "[\n\n1]", " [1]", "[1] ", "[1 ,2]", "[" + "\n" + " " * 41 + "1]"):
        assert not accepts(grammar, text), text


def test_strings_are_what_json_allows() -> None:
    grammar = compiled({"type": "string"})
    for text in (r'"\u0041\ud83d\ude00"', r'"\/\b\f\n\r\t\"\\"', '"é"', r'"\uD7FF\ue000"'):
        assert accepts(grammar, text), text
        json.loads(text).encode()
    for text in ('"\n"', r'"\x"', r'"\u12"', r'"\ud800"', r'"\ude00"', r'"\ud83d\u0041"', '"'):
        assert not accepts(grammar, text), text
    matcher = grammar.matcher()
    assert matcher.accept_text(b'"\xf0\x9f\x98') == 4, "part of a character may come"
    assert matcher.copy().accept_text(b'"') == 0
    assert matcher.accept_text(b'\x80"') == 2 and matcher.must_end
    for content in (b'"\xff', b'"\xc0\x80', b'"\xed\xa0\x80', b'"\xf4\x90\x80\x80'):
        assert grammar.matcher().accept_text(content) < len(content)
