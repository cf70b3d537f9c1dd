"""What structured output costs for a tokenizer: `python -m mindir_llm.tools.bench.grammar TOKENIZER …`.

For each grammar a document that it allows is followed twice, token by token: at first every mask is new.
Times are of the processor, in milliseconds, so a busy machine matters little.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mindir_llm.runtime import EngineTokenizer, Grammar

_TEXT = "The little fox found a red ball near the old river and said hello to every bird in the quiet valley"
_WORDS = _TEXT.split()
_LETTERS = "abcdef"
_SKU = "^[A-Z]{3}-[0-9]{4}$"


def _sentence(words: int, shift: int = 0) -> str:
    return " ".join(_WORDS[(index * 7 + shift) % len(_WORDS)] for index in range(words))


def _object(properties: dict[str, Any], **keywords: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), **keywords}


def _texts(count: int) -> dict[str, str]:
    return {letter: _sentence(30, index)[:count] for index, letter in enumerate(_LETTERS)}


def _cases() -> list[tuple[str, str, str, str]]:
    """Name, kind and source of a grammar, and a document."""

    def schema(name: str, content: Any, document: Any) -> tuple[str, str, str, str]:
        return name, "json_schema", json.dumps(content), json.dumps(document)

    anything = {
        "title": _sentence(6),
        "items": [{"id": index, "text": _sentence(12, index), "score": index / 7} for index in range(8)],
    }
    person = _object(
        {
            "name": {"type": "string", "maxLength": 40},
            "born": {"type": ["integer", "null"], "minimum": 0, "maximum": 2100},
            "roles": {"type": "array", "items": {"enum": ["author", "editor", "translator"]}},
        }
    )
    people = [
        {"name": _sentence(4, index)[:40], "born": 1900 + index, "roles": ["author", "editor"]}
        for index in range(5)
    ]
    item = _object(
        {
            "sku": {"type": "string", "pattern": _SKU},
            "quantity": {"type": "integer", "minimum": 1, "maximum": 999},
            "price": {"type": "number", "exclusiveMinimum": 0},
        }
    )
    order = _object(
        {
            "id": {"type": "string", "format": "uuid"},
            "items": {"type": "array", "items": item},
            "placed": {"type": "string", "format": "date-time"},
        }
    )
    ordered = {
        "id": "123e4567-e89b-12d3-a456-426614174000",
        "items": [{"sku": f"ABC-{index:04}", "quantity": 2, "price": 9.99 + index} for index in range(8)],
        "placed": "2024-01-01T00:00:00Z",
    }
    bounded = _object({letter: {"type": "string", "maxLength": 200} for letter in _LETTERS})
    both = _object(
        {letter: {"type": "string", "pattern": "^[A-Za-z ]*$", "maxLength": 200} for letter in _LETTERS}
    )
    named = _object({"name": {"type": "string"}}, additionalProperties={"type": "string"})
    others = {f"{_sentence(1, index)}{index}": _sentence(6, index) for index in range(10)}
    sentences = 'root ::= sentence+\nsentence ::= [A-Z] [a-z]* (" " [a-zA-Z]+)* "." " "?'
    return [
        ("any object", "json_object", "", json.dumps(anything)),
        schema(
            "objects in an array", _object({"people": {"type": "array", "items": person}}), {"people": people}
        ),
        schema("uuid, pattern, numbers, date", order, ordered),
        schema("strings of at most 200", bounded, _texts(200)),
        schema("named properties and others", named, {"name": _sentence(5), **others}),
        schema("pattern and maxLength", both, _texts(200)),
        (
            "sentences in GBNF",
            "grammar",
            sentences,
            " ".join(f"{_sentence(10, n).capitalize()}." for n in range(12)),
        ),
    ]


@dataclass(frozen=True)
class Cost:
    """Milliseconds; first and again: means of a token's mask."""

    tokens: int
    compiling: float
    first: float
    slowest: float
    again: float


def cost(tokenizer: EngineTokenizer, kind: str, source: str, document: str) -> Cost:
    """What following the document costs."""
    ids = tokenizer.encode(document, add_special_tokens=False)
    began = time.thread_time()
    grammar = Grammar(tokenizer, kind, source)
    compiling = time.thread_time() - began
    rounds = []
    for _ in range(2):
        matcher, times = grammar.matcher(), []
        for index in ids:
            began = time.thread_time()
            matcher.compute_mask()
            times.append(1e3 * (time.thread_time() - began))
            matcher.accept(index)
        assert matcher.can_end
        rounds.append(times)
    first, again = rounds
    return Cost(len(ids), 1e3 * compiling, statistics.mean(first), max(first), statistics.mean(again))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table for each tokenizer."""
    parser = argparse.ArgumentParser(prog="python -m mindir_llm.tools.bench.grammar", description=__doc__)
    parser.add_argument(
        "tokenizers", nargs="+", metavar="TOKENIZER", help="a bundle, a checkpoint's folder or a file"
    )
    for path in parser.parse_args(arguments).tokenizers:
        tokenizer = EngineTokenizer(path)
        began = time.thread_time()
        Grammar(tokenizer, "grammar", 'root ::= "a"')
        sorting = 1e3 * (time.thread_time() - began)
        print(f"{path}: {tokenizer.vocab_size} tokens, sorted in {sorting:.0f} ms")
        print(f"  {'milliseconds':30}{'tokens':>8}{'compiling':>11}{'first':>9}{'slowest':>9}{'again':>9}")
        for name, kind, source, document in _cases():
            one = cost(tokenizer, kind, source, document)
            masks = f"{one.first:9.4f}{one.slowest:9.3f}{one.again:9.4f}"
            print(f"  {name:30}{one.tokens:8}{one.compiling:11.1f}{masks}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
