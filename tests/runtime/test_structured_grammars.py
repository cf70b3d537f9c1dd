"""GBNF grammars against an oracle that knows nothing of automata, token masks against trying every token."""

from __future__ import annotations

import io
import json
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
from byte_level_models import FAMILIES, alphabet
from gbnf_oracle import LETTERS, Oracle, RandomGrammar, grammars
from grammar_tools import DEMO, accepts
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import SAMPLES
from tokenizers import Tokenizer, models, trainers

from mindir_llm.runtime import EngineTokenizer, Grammar, GrammarError, InvalidArgumentError, Matcher

KINDS = ["pieces", "pieces that lose all blanks", "bytes"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, EngineTokenizer]:
    """Small vocabularies of each kind, with parts of characters, blanks at the beginning, and equal texts."""
    opened = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp("vocabulary")
        if kind == "bytes":
            model = Tokenizer(models.BPE())
            model.pre_tokenizer = FAMILIES["llama3"]
            trainer = trainers.BpeTrainer(
                vocab_size=500, show_progress=False, initial_alphabet=alphabet(), special_tokens=["<|end|>"]
            )
            model.train_from_iterator([*SAMPLES.values(), "aab abx bba  xx" * 50], trainer)
            model.save(str(folder / "tokenizer.json"))
            (folder / "tokenizer_config.json").write_text('{"eos_token": "<|end|>"}')
        else:
            written = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(
                    ["aab abx bba  xx ab", "a b c x é日ü", '{"a": [1, 2]}', "xyz 123"] * 30
                ),
                model_writer=written,
                vocab_size=350,
                hard_vocab_limit=False,
                model_type="bpe",
                byte_fallback=True,
                remove_extra_whitespaces=kind != "pieces",
                normalization_rule_name="identity",
                minloglevel=2,
            )
            (folder / "tokenizer.model").write_bytes(written.getvalue())
        opened[kind] = EngineTokenizer(folder)
    return opened


@lru_cache(maxsize=1)
def demo() -> EngineTokenizer:
    return EngineTokenizer(DEMO)


def compiled(text: str, tokenizer: EngineTokenizer | None = None) -> Grammar:
    return Grammar(tokenizer or demo(), "grammar", text)


@settings(max_examples=300)
@given(
    grammar=grammars(),
    texts=st.lists(st.text(LETTERS, max_size=8), max_size=4),
    picks=st.lists(st.integers(0, 10**6), max_size=12),
)
def test_gbnf_against_an_oracle(grammar: RandomGrammar, texts: list[str], picks: list[int]) -> None:
    ours = compiled(grammar.text)

    def check(text: str, taken: bool, matcher: Matcher) -> None:
        is_whole, begins = Oracle(grammar, text).begins()
        assert taken == begins, (grammar.text, text)
        assert not taken or matcher.can_end == is_whole, (grammar.text, text)

    for text in texts:
        matcher = ours.matcher()
        check("", True, matcher)
        for length in range(1, len(text) + 1):
            content = text[length - 1].encode()
            taken = matcher.accept_text(content) == len(content)
            check(text[:length], taken, matcher)
            if not taken:
                break
    # Longer texts, of characters that are allowed.
    matcher, text = ours.matcher(), ""
    for pick in picks:
        following = []
        for letter in LETTERS:
            trial = matcher.copy()
            taken = trial.accept_text(letter.encode()) == len(letter.encode())
            check(text + letter, taken, trial)
            following += [(letter, trial)] if taken else []
        if not following:
            break
        letter, matcher = following[pick % len(following)]
        text += letter


def allowed_by_trying(
    tokenizer: EngineTokenizer, matcher: Matcher, at_start: bool, may_be_blank: bool = True
) -> np.ndarray:
    """The mask, token by token."""
    strips = at_start and isinstance(tokenizer.token_id("\u2581"), int)
    special = set(tokenizer.all_special_ids)
    allowed = np.zeros(tokenizer.vocab_size, dtype=bool)
    for index in range(tokenizer.vocab_size):
        content = tokenizer.token_bytes(index)
        if index in special or not content:
            continue
        if strips and tokenizer.spelling(index).startswith("\u2581"):
            content = content[1:]
            if not content and (not may_be_blank or matcher.must_end):
                continue
        allowed[index] = matcher.copy().accept_text(content) == len(content)
    for index in tokenizer.stop_token_ids:
        allowed[index] = matcher.can_end
    return allowed


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(grammar=grammars(), picks=st.lists(st.integers(0, 10**6), max_size=4))
def test_masks_against_trying_every_token(
    folders: dict[str, EngineTokenizer], kind: str, grammar: RandomGrammar, picks: list[int]
) -> None:
    tokenizer = folders[kind]
    matcher = compiled(grammar.text, tokenizer).matcher()
    at_start, may_be_blank = True, True
    for pick in [*picks, 0]:
        mask = matcher.mask()[: tokenizer.vocab_size]
        expected = allowed_by_trying(tokenizer, matcher, at_start, may_be_blank)
        assert np.array_equal(mask, expected), (grammar.text, np.flatnonzero(mask != expected))
        for index in np.flatnonzero(mask)[:20]:
            matcher.copy().accept(int(index))
        refused = np.flatnonzero(~mask)
        for index in refused[:20]:
            with pytest.raises(InvalidArgumentError, match=f"token {index} is not allowed"):
                matcher.accept(int(index))
        choices = np.setdiff1d(np.flatnonzero(mask), tokenizer.stop_token_ids)
        if not len(choices):
            break
        index = int(choices[pick % len(choices)])
        # Where all blanks are lost, a lone one leaves the text where it began.
        at_start = at_start and kind == KINDS[1] and tokenizer.spelling(index) == "\u2581"
        may_be_blank = False
        matcher.accept(index)


JSON_LIKE = """
root ::= "{" [ ]? pair ("," [ ]? pair)* "}"
pair ::= string ":" [ ]? (string | number | root)
string ::= "\\"" ([^"\\\\\\x00-\\x1f] | "\\\\" ["\\\\/bfnrt]){0,9} "\\""
number ::= "-"? [0-9]{1,4} ("." [0-9]+)?
"""


@pytest.mark.parametrize("kind", KINDS)
def test_masks_of_counted_strings(folders: dict[str, EngineTokenizer], kind: str) -> None:
    """Counted rounds within nested rules, at every place of a text."""
    tokenizer = folders[kind]
    matcher = compiled(JSON_LIKE, tokenizer).matcher()
    content = '{"aab abx": {"é\\n日\\\\": -12.5, "": "abxabxabx"}, "x":"'.encode()
    for at, byte in enumerate(content):
        assert np.array_equal(
            matcher.mask()[: tokenizer.vocab_size], allowed_by_trying(tokenizer, matcher, at == 0)
        ), content[:at]
        assert matcher.accept_text(bytes([byte])) == 1, content[: at + 1]


def test_a_text_of_tokens_is_the_text_that_is_read(folders: dict[str, EngineTokenizer]) -> None:
    """The decoder's text of the accepted tokens is the grammar's text, whatever blanks begin it."""
    rng = np.random.default_rng(3)
    for kind, tokenizer in folders.items():
        for source in ('root ::= " "{0,2} [ab]{1,3} ("é" | "日" | " x")*', JSON_LIKE):
            grammar = compiled(source, tokenizer)
            for _ in range(40):
                matcher, ids = grammar.matcher(), []
                while not matcher.must_end and len(ids) < 60:
                    index = int(rng.choice(np.flatnonzero(matcher.mask())))
                    matcher.accept(index)
                    if index in tokenizer.stop_token_ids:
                        break
                    ids.append(index)
                text = tokenizer.decode(ids, skip_special_tokens=True)
                # The last character may not be complete.
                whole = text.rstrip("\ufffd")
                again = grammar.matcher()
                assert again.accept_text(whole.encode()) == len(whole.encode()), (kind, ids, text)
                assert again.can_end == matcher.can_end or whole != text


def test_copies_go_their_own_ways() -> None:
    matcher = compiled('root ::= "a" ("b" | "c")').matcher()
    matcher.accept_text(b"a")
    other = matcher.copy()
    assert matcher.accept_text(b"b") == 1 and matcher.must_end
    assert not other.can_end and other.accept_text(b"c") == 1 and other.must_end


def test_end_tokens() -> None:
    tokenizer = demo()
    grammar = compiled('root ::= "a" "b"?')
    matcher = grammar.matcher()
    end = tokenizer.eos_token_id
    assert end is not None and not matcher.mask()[end]
    matcher.accept_text(b"a")
    assert matcher.mask()[end]
    matcher.accept(end)
    assert matcher.must_end and not matcher.mask().any() and matcher.accept_text(b"b") == 0
    chosen = grammar.matcher([7, 40_000])
    chosen.accept_text(b"ab")
    assert list(np.flatnonzero(chosen.mask())) == [7, 40_000]
    none = grammar.matcher([])
    none.accept_text(b"ab")
    assert none.must_end and not none.mask().any()
    with pytest.raises(InvalidArgumentError, match="end token -1"):
        grammar.matcher([-1])


def test_what_the_vocabulary_cannot_write_is_an_error(tmp_path: Path) -> None:
    model = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    model.pre_tokenizer = FAMILIES["llama3"]
    model.save(str(tmp_path / "tokenizer.json"))
    tokenizer = EngineTokenizer(tmp_path)
    matcher = compiled('root ::= "ab" "c"', tokenizer).matcher()
    matcher.accept(0)
    matcher.accept(1)
    with pytest.raises(InvalidArgumentError, match="no token of the vocabulary goes on with the grammar"):
        matcher.mask()


def test_states_are_forgotten_and_found_again() -> None:
    """More states than are kept, with several texts at different places."""
    grammar = compiled('root ::= "(" root ")" | "[" root "]" | "x"')
    rng = np.random.default_rng(1)
    texts = ["".join(rng.choice(list("(["), size=30_000)) for _ in range(3)]
    matchers = [grammar.matcher() for _ in texts]
    for start in range(0, 30_000, 5_000):
        for matcher, text in zip(matchers, texts, strict=True):
            assert matcher.accept_text(text[start : start + 5_000].encode()) == 5_000
            matcher.mask()
    for matcher, text in zip(matchers, texts, strict=True):
        closing = "x" + text[::-1].translate(str.maketrans("([", ")]"))
        assert matcher.copy().accept_text(b"x]" if closing[1] == ")" else b"x)") == 1
        assert matcher.accept_text(closing.encode()) == len(closing) and matcher.must_end


def test_threads_share_a_grammar() -> None:
    grammar = Grammar(demo(), "json_object")
    text = json.dumps({"a": [1, {"b": "cd" * 20}], "e": None}).encode()
    failures: list[Any] = []

    def follow() -> None:
        for _ in range(15):
            matcher = grammar.matcher()
            for byte in text:
                matcher.mask()
                if matcher.accept_text(bytes([byte])) != 1:
                    failures.append(byte)
            if not matcher.must_end:
                failures.append("end")

    threads = [threading.Thread(target=follow) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# ---- Whatever the source is, the answer is a grammar or an error, soon


def outcome(kind: str, source: str) -> None:
    began = time.perf_counter()
    try:
        matcher = Grammar(demo(), kind, source).matcher()
        matcher.accept_text(b'{"a": [1, "x"]} aaab')
        if not matcher.must_end:
            matcher.mask()
    except InvalidArgumentError as error:
        assert str(error) and "\n" not in str(error).removesuffix("\n")
    assert time.perf_counter() - began < 20


SEED = JSON_LIKE + 'other ::= ("a" | [^b-c]{2,3} | .)? # comment\n'


@settings(max_examples=300)
@given(
    edits=st.lists(
        st.tuples(
            st.integers(0, len(SEED)),
            st.integers(0, 12),
            st.text('abroot ::=|()[]{}*+?.,^-"\\\n#x0159é\0', max_size=6),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_damaged_grammars(edits: list[tuple[int, int, str]]) -> None:
    source = SEED
    for at, size, text in edits:
        source = source[:at] + text + source[at + size :]
    outcome("grammar", source)


SCHEMA_WORDS = st.sampled_from(
    [
        "type",
        "properties",
        "items",
        "enum",
        "const",
        "anyOf",
        "oneOf",
        "allOf",
        "$ref",
        "required",
        "minLength",
        "maxLength",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "additionalProperties",
        "patternProperties",
        "prefixItems",
        "multipleOf",
        "propertyNames",
        "minProperties",
        "maxProperties",
        "$defs",
        "nullable",
        "exclusiveMinimum",
        "uniqueItems",
        "title",
        "a",
        "b",
        "^x",
    ]
)
WORDS: list[Any] = [
    "object",
    "array",
    "string",
    "integer",
    "number",
    "null",
    "#",
    "#/$defs/a",
    "#/properties/a",
    "^a+$",
    "(a|b)*c",
    "date",
    "uuid",
    "a",
]
THINGS: list[Any] = ["", 0, 1, 5, 2.5, -3, 10**6, 10**30, True, False, None, [], {}, ["a"], ["a", "b"]]
SCHEMA_VALUES = st.sampled_from(WORDS + THINGS)


@settings(max_examples=400)
@given(
    st.recursive(
        SCHEMA_VALUES,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(SCHEMA_WORDS | st.sampled_from(["a", "b", "^x"]), inner, max_size=5)
        ),
        max_leaves=20,
    )
)
def test_arbitrary_schemas(schema: Any) -> None:
    outcome("json_schema", json.dumps(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        {"allOf": [{"anyOf": [{"minLength": n + m} for n in range(6)]} for m in range(8)]},
        {"properties": {f"p{n}": {"type": "string", "maxLength": 5000} for n in range(300)}},
        {"properties": {f"p{n}": {} for n in range(3000)}},
        {"type": "object", "patternProperties": {f"^{'ab' * n}[a-z]{{0,20}}$": {} for n in range(12)}},
        {"type": "string", "pattern": "(a?){1000}a{1000}"},
        {"type": "string", "pattern": "(((a{99}){99}){99}){99}"},
        {"type": "string", "pattern": ".*a.{25}b"},
        {"type": "string", "allOf": [{"pattern": f"{c}.*{c}.*{c}"} for c in "abcdefgh"]},
        {"enum": [f"value number {n}" for n in range(20_000)]},
        {"type": "array", "minItems": 1_000_000, "items": {"type": "array", "minItems": 1_000_000}},
        {"type": "array", "prefixItems": [{"type": "integer"}] * 5000},
        {
            "oneOf": [
                {"type": "object", "properties": {"a": {"const": n}}, "required": ["a"]} for n in range(60)
            ]
        },
    ],
    ids=lambda schema: str(schema)[:40],
)
def test_hostile_schemas(schema: Any) -> None:
    outcome("json_schema", json.dumps(schema))


def test_deep_sources() -> None:
    for depth in (30, 5_000):
        schema: Any = "{" + '"items": {' * depth + "}" * depth + "}"
        outcome("json_schema", schema)
        outcome("json_schema", '{"type": "string", "pattern": "' + "(" * depth + ")" * depth + '"}')
    with pytest.raises(GrammarError, match="at most 4194304"):
        Grammar(demo(), "json_schema", " " * (5 << 20))
    with pytest.raises(GrammarError, match="line 1, column 1"):
        Grammar(demo(), "grammar", "\ud800")
    assert accepts(compiled('root ::= "\\x00"'), "\0")
