"""The token loop, stop rules, streaming and prompt forms, against a model made of a few lines of numpy."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from fake_backend import ByteTokenizer, FakeModel, hashed, says
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.runtime import LLM, CapacityError, InvalidArgumentError, SamplingParams
from mindir_llm.runtime.stop_strings import StopStrings

GREEDY = SamplingParams(temperature=0, max_tokens=None)


def greedy(**changes: Any) -> SamplingParams:
    return dataclasses.replace(GREEDY, **changes)


def speaker(text: str, **options: Any) -> LLM:
    return LLM.from_backend(FakeModel(says(text), **options), ByteTokenizer())


def one(llm: LLM, params: SamplingParams, prompt: Any = "|") -> Any:
    (output,) = llm.generate(prompt, params)
    return output.outputs[0]


def test_text_until_the_end_token() -> None:
    llm = speaker("hello")
    (output,) = llm.generate("say|", GREEDY)
    completion = output.outputs[0]
    assert output.prompt == "say|"
    assert output.prompt_token_ids == ByteTokenizer().encode("say|")
    assert (completion.text, completion.finish_reason, completion.stop_reason) == ("hello", "stop", None)
    assert completion.token_ids == [*ByteTokenizer().encode("hello")[1:], 2]
    assert completion.index == 0
    assert completion.logprobs is None and completion.cumulative_logprob is None
    assert (output.metrics.prompt_tokens, output.metrics.decode_tokens) == (5, 5)


def test_defaults_are_vllm_s() -> None:
    params = SamplingParams()
    assert (params.temperature, params.top_p, params.max_tokens, params.stop) == (1.0, 1.0, 16, ())
    assert params.top_k <= 0
    assert len(one(LLM.from_backend(FakeModel(hashed())), params, {"prompt_token_ids": [5]}).token_ids) == 16


def test_max_tokens() -> None:
    completion = one(speaker("hello"), greedy(max_tokens=3))
    assert (completion.text, completion.finish_reason) == ("hel", "length")


def test_generation_ends_when_the_context_is_full() -> None:
    llm = speaker("x" * 100, max_seq_len=10)
    completion = one(llm, GREEDY)
    assert (completion.text, completion.finish_reason) == ("x" * 8, "length")
    assert one(llm, GREEDY, "12345678|"[1:]).text == "x"
    with pytest.raises(CapacityError, match="prompt has 10 tokens; max_seq_len of the bundle is 10"):
        llm.generate("12345678|", GREEDY)


def test_nothing_is_generated_when_one_prompt_is_too_long() -> None:
    model = FakeModel(says("x"), max_seq_len=10)
    with pytest.raises(CapacityError, match="prompt 1 has"):
        LLM.from_backend(model, ByteTokenizer()).generate(["|", "x" * 50 + "|"], GREEDY)
    assert not model.sessions


def test_stop_token_ids_and_ignore_eos() -> None:
    completion = one(speaker("hello"), greedy(stop_token_ids=[3 + ord("l")]))
    assert (completion.text, completion.stop_reason) == ("he", 3 + ord("l"))
    assert completion.token_ids[-1] == 3 + ord("l")
    completion = one(speaker("hi"), greedy(ignore_eos=True, max_tokens=5))
    assert (completion.text, completion.finish_reason, completion.token_ids[2:]) == (
        "hi",
        "length",
        [2, 2, 2],
    )
    completion = one(speaker("hi"), greedy(ignore_eos=True, stop_token_ids=[2]))
    assert (completion.text, completion.stop_reason) == ("hi", 2)


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ("wor", "hello ", "wor"),
        (["ld", "o "], "hell", "o "),
        (["d", "ld"], "hello wor", "ld"),
        ("xyz", "hello world", None),
        ("hello world!", "hello world", None),
        ("h", "", "h"),
    ],
)
def test_stop_strings(stop: Any, text: str, reason: str | None) -> None:
    completion = one(speaker("hello world"), greedy(stop=stop))
    assert (completion.text, completion.stop_reason, completion.finish_reason) == (text, reason, "stop")
    pieces = list(speaker("hello world").stream("|", greedy(stop=stop)))
    assert "".join(pieces) == text


def test_min_tokens_bans_ends_and_passes_over_stop_strings() -> None:
    completion = one(speaker("hi"), greedy(min_tokens=4, max_tokens=9))
    assert completion.token_ids[:2] == [3 + ord("h"), 3 + ord("i")]
    assert 2 not in completion.token_ids[:4]
    assert (completion.token_ids[-1], len(completion.token_ids)) == (2, 5)
    completion = one(speaker("abcabcabc"), greedy(min_tokens=4, stop="bc"))
    assert completion.text == "abca"
    completion = one(speaker("abcabcabc"), greedy(min_tokens=5, stop="bc"))
    assert completion.text == "abca", "a match may begin before min_tokens, it must not end there"


def test_streaming_never_splits_a_character_and_holds_back_stop_prefixes() -> None:
    stream = speaker("aé你😀b").stream("|", GREEDY)
    assert list(stream) == ["a", "é", "你", "😀", "b"]
    assert stream.output.outputs[0].text == "aé你😀b"
    assert list(speaker("one STAR two STOP three").stream("|", greedy(stop=["STOP"]))) == [
        *"one ", "STA", "R", *" two ",
    ]  # fmt: skip
    assert list(speaker("one ST").stream("|", greedy(stop=["STOP"]))) == [*"one ", "ST"]


def test_an_unfinished_character_at_the_end() -> None:
    completion = one(speaker("你好"), greedy(max_tokens=5))
    assert completion.text == "你\ufffd\ufffd"
    assert "".join(speaker("你好").stream("|", greedy(max_tokens=5))) == completion.text


def test_a_character_begun_in_the_prompt_is_completed() -> None:
    llm = speaker("")
    first, second = [3 + byte for byte in "é".encode()]

    def next_logits(context: list[int]) -> Any:
        logits = np.zeros(259, np.float32)
        logits[2 if context[-1] == second else second] = 5
        return logits

    llm = LLM.from_backend(FakeModel(next_logits), ByteTokenizer())
    assert one(llm, GREEDY, {"prompt_token_ids": [1, first]}).text == "é"


def test_a_stream_s_output_comes_at_its_end_and_sessions_are_reused() -> None:
    model = FakeModel(says("hello"))
    llm = LLM.from_backend(model, ByteTokenizer())
    stream = llm.stream("|", GREEDY)
    assert next(stream) == "h"
    with pytest.raises(InvalidArgumentError, match="not come to its end"):
        _ = stream.output
    assert one(llm, GREEDY).text == "hello", "while the stream is under way"
    assert len(model.sessions) == 2
    stream.close()
    assert one(llm, GREEDY).text == "hello"
    assert list(llm.stream("|", GREEDY)) == list("hello")
    assert len(model.sessions) == 2 and not any(session.closed for session in model.sessions)
    llm.close()
    assert all(session.closed for session in model.sessions)
    with pytest.raises(InvalidArgumentError, match="closed"):
        one(llm, GREEDY)


@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_a_batch_writes_what_single_prompts_do(batch_size: int) -> None:
    prompts = [{"prompt_token_ids": [1, *range(3, 3 + length)]} for length in (1, 9, 3, 30, 2, 7, 7)]
    params = [
        SamplingParams(seed=index % 3, max_tokens=4 + 5 * (index % 4), temperature=index % 2, logprobs=2)
        for index in range(len(prompts))
    ]
    model = FakeModel(hashed(), batch_size=batch_size)
    # Without reuse of prefixes every new prompt shows in what is fed.
    together = LLM.from_backend(model, ByteTokenizer(), prefix_reuse=False).generate(prompts, params)
    alone = LLM.from_backend(FakeModel(hashed()), ByteTokenizer())
    for prompt, one_of_them, output in zip(prompts, params, together, strict=True):
        assert output.outputs == alone.generate(prompt, one_of_them)[0].outputs
    assert model.open_samplers == 0
    # Continuous refill: no step runs with an empty slot while prompts wait.
    (session,) = model.sessions
    started = 0
    for segments in session.feeds:
        started += sum(len(ids) > 1 for _, ids in segments)
        assert len(segments) == batch_size or started == len(prompts)


def test_seeds() -> None:
    llm = LLM.from_backend(FakeModel(hashed()), ByteTokenizer())
    ids = {"prompt_token_ids": [1, 5]}
    seeded = SamplingParams(seed=11, ignore_eos=True)
    first, other, again = llm.generate([ids, {"prompt_token_ids": [1, 6]}, ids], seeded)
    assert first.outputs == again.outputs == llm.generate(ids, seeded)[0].outputs
    assert other.outputs != first.outputs
    free = SamplingParams(ignore_eos=True)
    assert one(llm, free, ids).token_ids != one(llm, free, ids).token_ids


def test_logprobs() -> None:
    llm = LLM.from_backend(FakeModel(hashed()), ByteTokenizer())
    completion = one(llm, SamplingParams(seed=3, logprobs=3), {"prompt_token_ids": [1]})
    context = [1]
    total = 0.0
    for token, entries in zip(completion.token_ids, completion.logprobs, strict=True):
        logits = hashed()(context).astype(np.float64)
        expected = logits - logits.max() - np.log(np.exp(logits - logits.max()).sum())
        assert token in entries and len(entries) in (3, 4)
        for index, entry in entries.items():
            assert entry.logprob == pytest.approx(expected[index])
            assert entry.rank == 1 + int((logits > logits[index]).sum())
            assert entry.decoded_token == ByteTokenizer().token_text(index)
        assert {entry.rank for entry in entries.values()} >= {1, 2, 3}
        total += expected[token]
        context.append(token)
    assert completion.cumulative_logprob == pytest.approx(total)
    zero = one(llm, SamplingParams(seed=3, logprobs=0), {"prompt_token_ids": [1]})
    assert [list(entries) for entries in zero.logprobs] == [[token] for token in zero.token_ids]


def test_ids_without_text_are_never_drawn() -> None:
    def next_logits(context: list[int]) -> Any:
        return np.arange(300, dtype=np.float32)

    llm = LLM.from_backend(FakeModel(next_logits, vocab_size=300), ByteTokenizer())
    assert one(llm, greedy(max_tokens=2)).token_ids == [258, 258]
    llm = LLM.from_backend(FakeModel(next_logits, vocab_size=300))
    assert one(llm, greedy(max_tokens=2), {"prompt_token_ids": [1]}).token_ids == [299, 299]


def test_mindformers_style() -> None:
    llm = LLM.from_backend(FakeModel(hashed()), ByteTokenizer())
    ids = [1, 7, 8]
    output = llm.generate(ids, max_new_tokens=5, do_sample=True, top_k=3, seed=1)
    assert output[0][:3] == ids and len(output) == 1 and 4 <= len(output[0]) <= 8
    both = llm.generate([ids, [1, 9]], max_new_tokens=5)
    assert both[0] == llm.generate(np.array(ids), max_new_tokens=5)[0]
    expected = llm.generate({"prompt_token_ids": [1, 9]}, greedy(max_tokens=5))[0]
    assert both[1] == [1, 9, *expected.outputs[0].token_ids]
    for wrong, message in [({"max_new_token": 5}, "max_new_token"), ({"max_tokens": 5}, "max_tokens")]:
        with pytest.raises(TypeError, match=f"no option '{message}'"):
            llm.generate(ids, **wrong)
    with pytest.raises(InvalidArgumentError, match="go with token ids"):
        llm.generate("text", max_new_tokens=5)
    with pytest.raises(TypeError, match="not both"):
        llm.generate(ids, GREEDY, max_new_tokens=5)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([1, 2, 3], "write {\"prompt_token_ids\": ids}"),
        ({"prompt_token_ids": []}, "the prompt has no tokens"),
        (["|", {"prompt_token_ids": [1, 259]}], r"prompt 1: token id 259 is outside .* \[0, 259\)"),
        ({"prompt_token_ids": [1, 2.5]}, "must be a list of ints"),
        ({"prompt_token_ids": "12"}, "must be a list of ints, not str"),
        ({"prompt_ids": [1]}, "it has 'prompt_ids'"),
        ({"prompt": "x", "prompt_token_ids": [1]}, "either"),
        (["|", 7.5], "prompt 1 is float"),
        (None, "prompts is NoneType"),
    ],
)  # fmt: skip
def test_bad_prompts(prompts: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        speaker("x").generate(prompts, GREEDY)


def test_prompt_forms_agree() -> None:
    llm = speaker("hi")
    ids = ByteTokenizer().encode("say|")
    forms = ["say|", {"prompt": "say|"}, {"prompt_token_ids": ids}, {"prompt_token_ids": np.array(ids)}]
    assert [output.outputs[0].text for output in llm.generate(forms, GREEDY)] == ["hi"] * 4
    assert [output.prompt for output in llm.generate(forms, GREEDY)] == ["say|", "say|", None, None]
    assert llm.generate([], GREEDY) == []


def test_params_per_prompt() -> None:
    llm = speaker("hello")
    outputs = llm.generate(["|", "|"], [greedy(max_tokens=1), greedy(max_tokens=2)])
    assert [output.outputs[0].text for output in outputs] == ["h", "he"]
    with pytest.raises(InvalidArgumentError, match="1 sampling_params for 2 prompts"):
        llm.generate(["|", "|"], [GREEDY])
    with pytest.raises(InvalidArgumentError, match="expected SamplingParams"):
        llm.generate("|", {"temperature": 0})


def test_a_bundle_without_tokenizer() -> None:
    llm = LLM.from_backend(FakeModel(hashed()))
    completion = one(llm, greedy(max_tokens=3, logprobs=1), {"prompt_token_ids": [1]})
    assert completion.text == "" and len(completion.token_ids) == 3
    with pytest.raises(InvalidArgumentError, match="is text, which needs a tokenizer"):
        llm.generate("text")
    with pytest.raises(InvalidArgumentError, match="stop strings need a tokenizer"):
        llm.generate({"prompt_token_ids": [1]}, greedy(stop="x"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", -0.1, r"temperature is -0.1, expected a number in \[0, ∞\)"),
        ("temperature", float("nan"), "temperature is nan"),
        ("temperature", float("inf"), "temperature is inf"),
        ("temperature", "hot", "temperature is 'hot'"),
        ("temperature", True, "temperature is True"),
        ("top_p", 0, r"top_p is 0, expected a number in \(0, 1\]"),
        ("top_p", 1.01, "top_p is 1.01"),
        ("top_k", -2, r"top_k is -2, expected an integer in \[-1, 2147483647\]"),
        ("top_k", 2.5, "top_k is 2.5"),
        ("min_p", 2, "min_p is 2"),
        ("repetition_penalty", 0, "repetition_penalty is 0"),
        ("presence_penalty", 2.5, r"presence_penalty is 2.5, expected a number in \[-2, 2\]"),
        ("frequency_penalty", -3, "frequency_penalty is -3"),
        ("seed", -1, r"seed is -1, expected an integer in \[0, 18446744073709551615\], or None"),
        ("seed", 2**64, "seed is"),
        ("max_tokens", 0, "max_tokens is 0"),
        ("min_tokens", None, "min_tokens is None"),
        ("min_tokens", 17, r"min_tokens is 17, above max_tokens \(16\)"),
        ("stop", [""], r"stop is \[''\]"),
        ("stop", [3], r"stop is \[3\]"),
        ("stop_token_ids", [-1], r"stop_token_ids is \[-1\]"),
        ("ignore_eos", 1, "ignore_eos is 1, expected True or False"),
        ("logprobs", -1, "logprobs is -1"),
    ],
)
def test_bad_params(field: str, value: Any, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        SamplingParams(**{field: value})


def test_params_are_normalized_and_unknown_ones_refused() -> None:
    given: dict[str, Any] = {"stop": "x", "stop_token_ids": [1, 2], "top_k": np.int64(3), "temperature": 1}
    params = SamplingParams(**given)
    assert (params.stop, params.stop_token_ids, params.top_k) == (("x",), (1, 2), 3)
    assert SamplingParams(stop=None, stop_token_ids=None).stop == ()  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="temprature"):
        SamplingParams(temprature=1.0)  # type: ignore[call-arg]


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.text("ab", max_size=4), max_size=10),
    stops=st.lists(st.text("ab", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_stop_strings_do_not_depend_on_where_the_text_is_cut(pieces: list[str], stops: list[str]) -> None:
    """Against a search after every character of the whole text."""
    text = "".join(pieces)
    matcher = StopStrings(stops)
    released = "".join([matcher.push(character) for character in text]) + (
        "" if matcher.found else matcher.flush()
    )
    ends = [end for end in range(len(text) + 1) if any(text[:end].endswith(stop) for stop in stops)]
    if ends:
        start = min(text[: ends[0]].rfind(stop) for stop in stops if text[: ends[0]].endswith(stop))
        assert released == text[:start] and matcher.found == text[start : ends[0]]
    else:
        assert released == text and matcher.found is None
    # Cut elsewhere: still everything before some match, never a whole stop string, nothing invented.
    matcher = StopStrings(stops)
    released = "".join([matcher.push(piece) for piece in pieces]) + ("" if matcher.found else matcher.flush())
    assert text.startswith(released + (matcher.found or ""))
    assert (matcher.found is not None) == bool(ends)
    assert not any(stop in released for stop in stops)
