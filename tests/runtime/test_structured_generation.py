"""Structured output from bundles: what LLM and the command line write follows the grammar."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import Exporter
from fake_backend import ByteTokenizer, FakeModel, says
from grammar_tools import DEMO

from mindir_llm.runtime import LLM, GrammarError, InvalidArgumentError, SamplingParams
from mindir_llm.runtime.cli import main

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["fox", "hare"]},
    },
    "required": ["name", "age", "kind"],
}
PARAMS = SamplingParams(json_schema=PERSON, max_tokens=None, seed=3)


@pytest.fixture(scope="module")
def llm(exported: Exporter) -> LLM:
    return LLM(exported(DEMO, quant="a16w8", batch=3, max_seq_len=256))


def one(llm: LLM, prompt: Any = "Once upon a time", **changes: Any) -> Any:
    return llm.generate(prompt, dataclasses.replace(PARAMS, **changes))[0].outputs[0]


def check(text: str) -> None:
    person = json.loads(text)
    assert list(person) == ["name", "age", "kind"] and person["kind"] in ("fox", "hare")
    assert 1 <= len(person["name"]) <= 12 and 0 <= person["age"] <= 150


@pytest.mark.parametrize(
    "changes", [{}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.2}, {"min_p": 0.5}], ids=str
)
def test_it_follows_the_schema(llm: LLM, changes: dict[str, Any]) -> None:
    for seed in range(3):
        output = one(llm, seed=seed, **changes)
        check(output.text)
        assert output.finish_reason == "stop" and output.stop_reason is None


def test_several_texts_in_a_batch(llm: LLM) -> None:
    params = [
        dataclasses.replace(PARAMS, n=2, best_of=4),
        SamplingParams(max_tokens=5, temperature=0),
        SamplingParams(grammar='root ::= ("red" | "green") " "? [0-9]{3}', seed=1),
    ]
    people, free, colour = llm.generate(["A", "B", "C"], params)
    assert len({output.text for output in people.outputs}) == 2
    for output in people.outputs:
        check(output.text)
    assert re.fullmatch("(red|green) ?[0-9]{3}", colour.outputs[0].text)
    assert free.outputs[0].text == llm.generate("B", params[1])[0].outputs[0].text, (
        "neighbours make no difference"
    )


def test_a_text_that_is_cut_says_so(llm: LLM) -> None:
    output = one(llm, max_tokens=3)
    assert output.finish_reason == "length" and len(output.token_ids) == 3


def test_end_tokens(llm: LLM) -> None:
    eos = llm.get_tokenizer().eos_token_id
    ones = SamplingParams(grammar='root ::= "1"+', seed=1, max_tokens=40, logit_bias={eos: 20})
    output = llm.generate("A", ones)[0].outputs[0]
    assert output.token_ids[-1] == eos and len(output.token_ids) > 1, "at least one 1, then the end token"
    assert set(output.text) == {"1"}
    longer = llm.generate("A", dataclasses.replace(ones, min_tokens=9))[0].outputs[0]
    assert len(longer.token_ids) > 9
    endless = llm.generate("A", dataclasses.replace(ones, ignore_eos=True))[0].outputs[0]
    assert endless.finish_reason == "length" and eos not in endless.token_ids
    # A complete text ends, whatever min_tokens says.
    assert one(llm, grammar='root ::= "1"', json_schema=None, min_tokens=30).text == "1"


def test_other_options_still_hold(llm: LLM) -> None:
    output = one(llm, logprobs=2)
    check(output.text)
    assert len(output.logprobs) == len(output.token_ids)
    assert output.cumulative_logprob == pytest.approx(
        sum(step[index].logprob for step, index in zip(output.logprobs, output.token_ids, strict=True))
    )
    stopped = one(llm, stop='"age"')
    assert stopped.text.endswith((",", "\n", " ", "\t")) and stopped.stop_reason == '"age"'
    less = {
        index: -9.0 for index in range(llm.info.vocab_size) if llm.get_tokenizer().token_text(index) == "f"
    }
    assert json.loads(one(llm, logit_bias=less).text)["kind"] in ("hare", "fox")
    assert (
        "x"
        not in one(llm, json_schema=None, grammar='root ::= ("x" | "yy")+', bad_words="x", max_tokens=20).text
    )


def test_the_text_begins_anew(llm: LLM) -> None:
    """Whether the first token carries SentencePiece's blank makes no difference to the text."""
    for prompt in ("Once", "Once ", {"prompt_token_ids": [1]}):
        assert one(llm, prompt, json_schema=None, grammar='root ::= "one" " two"').text == "one two"
        stream = llm.stream(prompt, SamplingParams(grammar='root ::= "one" " two"'))
        assert "".join(stream) == "one two" == stream.output.outputs[0].text


def test_any_object(llm: LLM) -> None:
    for seed in range(3):
        output = one(llm, json_schema=None, json_object=True, seed=seed)
        if output.finish_reason == "stop":
            assert isinstance(json.loads(output.text), dict)
        assert output.text.startswith("{")


def test_errors_come_before_anything_is_generated(llm: LLM, exported: Exporter) -> None:
    with pytest.raises(GrammarError, match='line 1, column 12: this " is not closed'):
        one(llm, json_schema=None, grammar='root ::= a "')
    with pytest.raises(GrammarError, match="#/type: expected null"):
        one(llm, json_schema={"type": "text"})
    with pytest.raises(InvalidArgumentError, match="grammar and json_schema are both given"):
        SamplingParams(grammar="root ::= .", json_schema={})
    with pytest.raises(InvalidArgumentError, match="json_schema is 5, expected a JSON schema"):
        SamplingParams(json_schema=5)
    for nothing in (float("nan"), {1, 2}):
        with pytest.raises(InvalidArgumentError, match="json_schema is"):
            SamplingParams(json_schema={"const": nothing})
    assert SamplingParams(json_schema=True).structure == ("json_schema", "true")
    with pytest.raises(InvalidArgumentError, match="json_object needs the bundle's own tokenizer"):
        LLM.from_backend(FakeModel(says("x")), ByteTokenizer()).generate(
            "a", SamplingParams(json_object=True)
        )
    with pytest.raises(InvalidArgumentError, match="structured output needs a tokenizer"):
        bare = LLM.from_backend(FakeModel(says("x")))
        bare.generate({"prompt_token_ids": [1]}, SamplingParams(json_object=True))


def test_tokenizers_of_other_kinds(shared_data: Path, exported: Exporter) -> None:
    """stories260K, whose tokenizer has byte fallback and 512 pieces."""
    bundle = exported(shared_data / "models" / "stories260K" / "hf", dtype="float32")
    with LLM(bundle) as llm:
        for temperature in (0.0, 1.0):
            check(
                llm.generate("Once", dataclasses.replace(PARAMS, temperature=temperature))[0].outputs[0].text
            )


def test_command_line(exported: Exporter, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    bundle = exported(DEMO, quant="a16w8", batch=3, max_seq_len=256)
    schema, grammar = tmp_path / "person.json", tmp_path / "answer.gbnf"
    schema.write_text(json.dumps(PERSON))
    grammar.write_text('# yes or no\nroot ::= answer\nanswer ::= "yes" |\n  "no"\n')
    command = ["run", str(bundle), "-p", "Once", "--quiet", "--seed", "5"]
    assert main([*command, "--json-schema", str(schema)]) == 0
    check(capfdbinary.readouterr().out.decode())
    assert main([*command, "--grammar", str(grammar)]) == 0
    assert capfdbinary.readouterr().out in (b"yes\n", b"no\n")
    assert main([*command, "--json-object", "--max-tokens", "9"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"{")
    grammar.write_text("root ::= (")
    assert main([*command, "--grammar", str(grammar)]) != 0
    assert b"line 1, column 10: this ( is not closed" in capfdbinary.readouterr().err
    assert main([*command, "--grammar", str(tmp_path / "missing")]) != 0
    assert b"missing" in capfdbinary.readouterr().err


def test_the_engine_masks_as_python_does(llm: LLM) -> None:
    """sample_matching draws what sample draws from logits without the tokens that are not allowed."""
    from mindir_llm.runtime.grammar import Grammar
    from mindir_llm.runtime.native_backend import NativeSampler

    tokenizer = llm.get_tokenizer()
    grammar = Grammar(tokenizer, "json_schema", json.dumps(PERSON))
    rng = np.random.default_rng(5)
    size = llm.info.vocab_size
    for temperature in (0.0, 0.9):
        params = SamplingParams(temperature=temperature, top_k=20, top_p=0.9)
        ours, theirs = (NativeSampler(params, 11, [1], size) for _ in range(2))
        matcher, twin = grammar.matcher(), grammar.matcher()
        everything = [int(index) for index in np.flatnonzero(twin.mask())]
        with pytest.raises(InvalidArgumentError, match="every token that the grammar allows is banned"):
            ours.sample(np.zeros(size, dtype=np.float32), everything, False, matcher)
        while not matcher.must_end:
            logits = rng.normal(size=size).astype(np.float32) * 4
            allowed = np.resize(twin.mask(), size)
            banned = [int(index) for index in np.flatnonzero(~allowed)]
            token, logprob = ours.sample(logits, [], True, matcher)
            assert (token, logprob) == theirs.sample(logits, banned, True)
            twin.accept(token)
            if token in tokenizer.stop_token_ids:
                break
