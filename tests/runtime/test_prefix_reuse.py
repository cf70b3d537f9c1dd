"""Beginnings that prompts have in common are computed once, and no result depends on it."""

from __future__ import annotations

from typing import Any

import pytest
from fake_backend import ByteTokenizer, FakeModel, hashed, says
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.runtime import LLM, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)


def prompts(*ids: list[int]) -> list[dict[str, Any]]:
    return [{"prompt_token_ids": one} for one in ids]


def fed(model: FakeModel) -> list[list[int]]:
    """What began each feed of the first session's slot 0, single tokens of the decode loop left out."""
    return [ids for feed in model.sessions[0].feeds for slot, ids in feed if len(ids) > 1]


def test_only_new_tokens_are_fed() -> None:
    model = FakeModel(hashed())
    llm = LLM.from_backend(model)
    first = llm.generate(prompts([1, 2, 3, 4, 5]), GREEDY)[0]
    answer = first.outputs[0].token_ids
    assert first.metrics.cached_tokens == 0
    # The next turn: the prompt, the answer, and more.
    longer = [1, 2, 3, 4, 5, *answer, 8, 9]
    second = llm.generate(prompts(longer), GREEDY)[0]
    assert fed(model) == [[1, 2, 3, 4, 5], [answer[-1], 8, 9]], "the last token drawn was never fed"
    assert second.metrics.cached_tokens == len(longer) - 3
    # Another middle: what follows it is computed anew.
    llm.generate(prompts([1, 2, 7, 4, 5]), GREEDY)
    assert fed(model)[2] == [7, 4, 5]
    # The same prompt once more: its last token is fed for its logits.
    again = llm.generate(prompts([1, 2, 7, 4, 5]), GREEDY)[0]
    assert again.metrics.cached_tokens == 4 and len(fed(model)) == 3
    assert len(model.sessions) == 1


def test_without_reuse_everything_is_fed() -> None:
    model = FakeModel(hashed())
    llm = LLM.from_backend(model, prefix_reuse=False)
    for _ in range(2):
        assert llm.generate(prompts([1, 2, 3]), GREEDY)[0].metrics.cached_tokens == 0
    assert fed(model) == [[1, 2, 3], [1, 2, 3]]


def test_each_prompt_takes_the_slot_that_holds_most_of_it() -> None:
    model = FakeModel(hashed(), batch_size=3)
    llm = LLM.from_backend(model)
    llm.generate(prompts([1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9, 9]), GREEDY)
    outputs = llm.generate(prompts([9, 9, 9, 9, 1], [1, 2, 3, 4, 1], [5, 6, 7, 8, 1]), GREEDY)
    assert [output.metrics.cached_tokens for output in outputs] == [4, 4, 4]
    # One that is new goes where least is lost.
    llm = LLM.from_backend(FakeModel(hashed(), batch_size=2))
    llm.generate(prompts([1, 2, 3, 4, 5, 6], [7, 8]), GREEDY)
    llm.generate(prompts([50, 51]), GREEDY)
    assert llm.generate(prompts([1, 2, 3, 4, 5, 6, 7]), GREEDY)[0].metrics.cached_tokens == 6


def test_the_idle_session_that_fits_best_is_taken() -> None:
    model = FakeModel(hashed())
    llm = LLM.from_backend(model, ByteTokenizer())
    one, other = (llm.stream({"prompt_token_ids": ids}, GREEDY) for ids in ([1, 30, 31, 32], [1, 40, 41, 42]))
    next(one), next(other)
    assert len(model.sessions) == 2
    one.close()
    list(other)
    for ids in ([1, 30, 31, 32, 5], [1, 40, 41, 42, 5]):
        stream = llm.stream({"prompt_token_ids": ids}, GREEDY)
        list(stream)
        assert stream.output.metrics.cached_tokens == 4
    assert len(model.sessions) == 2


def test_a_failed_feed_leaves_no_wrong_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FakeModel(hashed())
    llm = LLM.from_backend(model)
    llm.generate(prompts([1, 2, 3]), GREEDY)
    monkeypatch.setattr(model.sessions[0], "feed", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        llm.generate(prompts([1, 2, 3, 4, 5]), GREEDY)
    assert model.sessions[0].closed
    assert llm.generate(prompts([1, 2, 3, 4]), GREEDY)[0].metrics.cached_tokens == 0


@given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(3, 5), min_size=1, max_size=12), st.integers(0, 3)),
        min_size=1,
        max_size=12,
    ),
    batch_size=st.integers(1, 3),
    cut=st.integers(1, 4),
)
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_results_do_not_depend_on_it(
    requests: list[tuple[list[int], int]], batch_size: int, cut: int
) -> None:
    """The fake model's logits depend on every token of the context: a wrong rewind would change the ids."""
    reusing = LLM.from_backend(FakeModel(hashed(), batch_size=batch_size))
    fresh = LLM.from_backend(FakeModel(hashed()), prefix_reuse=False)
    for start in range(0, len(requests), cut):
        some = requests[start : start + cut]
        params = [SamplingParams(temperature=seed % 2, seed=seed, max_tokens=1 + seed) for _, seed in some]
        outputs = reusing.generate(prompts(*(ids for ids, _ in some)), params)
        for output, (ids, _), one in zip(outputs, some, params, strict=True):
            assert output.outputs == fresh.generate(prompts(ids), one)[0].outputs


def test_speeds_count_what_was_computed() -> None:
    llm = LLM.from_backend(FakeModel(says("hi")), ByteTokenizer())
    llm.generate("abcdefgh|", GREEDY)
    metrics = llm.generate("abcdefgh|", GREEDY)[0].metrics
    assert (metrics.prompt_tokens, metrics.cached_tokens) == (10, 9)
    assert metrics.prompt_tokens_per_second == pytest.approx(1 / metrics.prompt_seconds)
    assert metrics.line().startswith("prompt 1 tokens and 9 from the cache, ")
