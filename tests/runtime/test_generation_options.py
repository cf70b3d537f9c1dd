"""logit_bias, bad_words, n, best_of and prompt_logprobs, against a model made of a few lines of numpy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from fake_backend import ByteTokenizer, FakeModel, hashed, log_softmax, says

from mindir_llm.runtime import LLM, InvalidArgumentError, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=None)
IDS = {"prompt_token_ids": [1, 5, 9, 7]}


def letter(char: str) -> int:
    return 3 + ord(char)


def one(llm: LLM, prompt: Any = "|", **changes: Any) -> Any:
    return llm.generate(prompt, dataclasses.replace(GREEDY, **changes))[0].outputs[0]


def test_logit_bias() -> None:
    llm = LLM.from_backend(FakeModel(says("hello")), ByteTokenizer())
    # The fake's next letter has logit 10, all others 0.
    assert one(llm, logit_bias={letter("z"): 9.5}).text == "hello"
    assert one(llm, logit_bias={letter("z"): 10.5}, max_tokens=3).text == "zzz"
    assert one(llm, logit_bias={letter("l"): -100, letter("o"): 5}, max_tokens=4).text == "heoo"
    plain, biased = (one(llm, logprobs=1, logit_bias=bias, max_tokens=1) for bias in ({}, {letter("q"): 20}))
    logits = says("hello")([1, letter("|")])
    assert biased.text == "q"
    assert biased.cumulative_logprob == pytest.approx(log_softmax(logits)[letter("q")]), "of the raw logits"
    assert plain.cumulative_logprob == pytest.approx(log_softmax(logits)[letter("h")])
    with pytest.raises(InvalidArgumentError, match=r"logit_bias has 259, outside the vocabulary \[0, 259\)"):
        one(llm, logit_bias={259: 1})


def test_bad_words() -> None:
    llm = LLM.from_backend(FakeModel(says("one two three")), ByteTokenizer())
    # What replaces the "o" is id 0, the first of the equally improbable ones, which has no text.
    assert one(llm, bad_words=["two"], max_tokens=13).text == "one tw three"
    assert "t" not in one(llm, bad_words="t", max_tokens=13).text
    # At the beginning as well as behind a blank.
    assert not one(llm, bad_words=["one"], max_tokens=5).text.startswith("one")
    free = LLM.from_backend(FakeModel(hashed()), ByteTokenizer())
    unlimited = one(free, IDS, ignore_eos=True, max_tokens=40, temperature=1.0, seed=3).token_ids
    pair = ByteTokenizer().decode(unlimited[4:6])
    if len(pair.encode()) == 2:
        assert (
            pair
            not in one(
                free, IDS, ignore_eos=True, max_tokens=40, temperature=1.0, seed=3, bad_words=pair
            ).text
        )
    with pytest.raises(InvalidArgumentError, match="bad_words need a tokenizer"):
        one(LLM.from_backend(FakeModel(hashed())), IDS, bad_words="x")


@pytest.mark.parametrize("batch_size", [1, 3])
def test_several_texts_of_a_prompt(batch_size: int) -> None:
    llm = LLM.from_backend(FakeModel(hashed(), batch_size=batch_size), ByteTokenizer())
    params = SamplingParams(n=4, seed=7, max_tokens=6, ignore_eos=True)
    first, second = llm.generate([IDS, {"prompt_token_ids": [1, 8]}], params)
    assert [text.index for text in first.outputs] == [0, 1, 2, 3] and len(second.outputs) == 4
    assert len({tuple(text.token_ids) for text in first.outputs}) == 4
    for number, text in enumerate(first.outputs):
        alone = dataclasses.replace(params, n=1, seed=7 + number)
        assert text.token_ids == llm.generate(IDS, alone)[0].outputs[0].token_ids
    assert first.metrics.decode_tokens == 4 * 5
    with pytest.raises(InvalidArgumentError, match="n and best_of are for what comes at once"):
        llm.stream(IDS, params)


def test_best_of() -> None:
    llm = LLM.from_backend(FakeModel(hashed()), ByteTokenizer())
    params = SamplingParams(n=8, seed=7, max_tokens=5, ignore_eos=True, logprobs=0)
    everything = llm.generate(IDS, params)[0].outputs
    ranked = sorted(everything, key=lambda text: -text.cumulative_logprob)
    best = llm.generate(IDS, dataclasses.replace(params, n=2, best_of=8))[0].outputs
    assert [text.token_ids for text in best] == [text.token_ids for text in ranked[:2]]
    assert [text.index for text in best] == [0, 1]
    silent = llm.generate(IDS, dataclasses.replace(params, n=1, best_of=8, logprobs=None))[0].outputs
    assert [text.token_ids for text in silent] == [ranked[0].token_ids]
    assert silent[0].cumulative_logprob is None
    with pytest.raises(InvalidArgumentError, match="best_of is 2, below n"):
        SamplingParams(n=3, best_of=2)


def test_prompt_logprobs() -> None:
    model = FakeModel(hashed())
    llm = LLM.from_backend(model, ByteTokenizer())
    plain = llm.generate(IDS, GREEDY)[0]
    output = llm.generate(IDS, dataclasses.replace(GREEDY, prompt_logprobs=2))[0]
    assert output.outputs == plain.outputs and plain.prompt_logprobs is None
    assert output.metrics.cached_tokens == 0, "what is not computed has no logits"
    reports = output.prompt_logprobs
    assert reports is not None and len(reports) == 4 and reports[0] is None
    for at in range(1, 4):
        ids = IDS["prompt_token_ids"]
        expected = log_softmax(hashed()(ids[:at]))
        report = reports[at]
        assert report is not None and ids[at] in report and len(report) in (2, 3)
        for index, entry in report.items():
            assert entry.logprob == pytest.approx(expected[index])
            assert entry.rank == 1 + int(np.count_nonzero(expected > expected[index]))
    single = llm.generate({"prompt_token_ids": [1]}, dataclasses.replace(GREEDY, prompt_logprobs=0))[0]
    assert single.prompt_logprobs == [None]


def test_prompt_logprobs_beside_others() -> None:
    """A prompt that is read token by token does not hold up its neighbours, nor change them."""
    prompts = [{"prompt_token_ids": [1, *range(10, 10 + length)]} for length in (9, 2, 12, 5)]
    params = [
        dataclasses.replace(GREEDY, prompt_logprobs=0 if i % 2 == 0 else None, max_tokens=6) for i in range(4)
    ]
    together = LLM.from_backend(FakeModel(hashed(), batch_size=3)).generate(prompts, params)
    for prompt, one_of_them, output in zip(prompts, params, together, strict=True):
        alone = LLM.from_backend(FakeModel(hashed())).generate(prompt, one_of_them)[0]
        assert (output.outputs, output.prompt_logprobs) == (alone.outputs, alone.prompt_logprobs)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "logit_bias",
            {1: 101},
            r"logit_bias is \{1: 101\}, expected \{token id: a number in \[-100, 100\]\}",
        ),
        ("logit_bias", {-1: 1}, "logit_bias is"),
        ("logit_bias", {"a": 1}, "logit_bias is"),
        ("logit_bias", 5, "logit_bias is 5"),
        ("bad_words", [""], "bad_words is"),
        ("n", 0, r"n is 0, expected an integer in \[1, 128\]"),
        ("best_of", 0, "best_of is 0"),
        ("prompt_logprobs", -1, "prompt_logprobs is -1"),
    ],
)
def test_bad_values(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SamplingParams(**{field: value})


def test_canonical_forms() -> None:
    params = SamplingParams(logit_bias={9: 1, 2: -3.5}, bad_words="x")  # type: ignore[arg-type]
    assert (params.logit_bias, params.bad_words) == (((2, -3.5), (9, 1.0)), ("x",))
    assert dataclasses.replace(params, n=2).logit_bias == params.logit_bias
