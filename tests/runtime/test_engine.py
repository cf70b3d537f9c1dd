"""LLM and Graph over the real engine, on a small random model."""

from __future__ import annotations

import dataclasses
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exporting import Exporter

from mindir_llm.runtime import LLM, BundleError, Graph, InvalidArgumentError, SamplingParams
from mindir_llm.tokenizer import TokenizerError

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
PROMPTS = ["Once upon a time", "The fox", "a red ball and a little fox said hello.", "x", "你好"]


@pytest.fixture(scope="module")
def llm(tiny_bundle: Path) -> LLM:
    return LLM(model=tiny_bundle)


def greedy_by_hand(bundle: Path, ids: list[int], count: int) -> tuple[list[int], list[Any]]:
    """The decode graph driven from Python, one token at a time, with caches passed in and out."""
    generated: list[int] = []
    every_logits = []
    with Graph(bundle / "decode.mindir", threads=1) as graph:
        state: dict[str, Any] = {
            info.name: np.zeros(info.shape, info.dtype) for info in graph.inputs if "cache" in info.name
        }
        for position in range(len(ids) + count - 1):
            token = (ids + generated)[position]
            output = graph.run(
                {
                    "input_ids": np.array([[token]], np.int32),
                    "input_position": [position],
                    "batch_valid_length": [position + 1],
                    **state,
                }
            )
            logits = output.pop("logits")[0]
            state = output
            if position >= len(ids) - 1:
                generated.append(int(np.argmax(logits)))
                every_logits.append(logits)
    return generated, every_logits


def test_greedy_equals_the_decode_graph_by_hand(llm: LLM, tiny_bundle: Path) -> None:
    params = dataclasses.replace(GREEDY, logprobs=3)
    for output in llm.generate(PROMPTS[:3], params):
        ids, every_logits = greedy_by_hand(tiny_bundle, output.prompt_token_ids, 12)
        completion = output.outputs[0]
        assert completion.token_ids == ids
        assert completion.logprobs is not None
        for logits, entries in zip(every_logits, completion.logprobs, strict=True):
            shifted = logits.astype(np.float64) - logits.max()
            expected = shifted - np.log(np.exp(shifted).sum())
            for index, entry in entries.items():
                assert entry.logprob == pytest.approx(expected[index], abs=2e-5)


def test_a_batch_writes_what_single_prompts_do(llm: LLM, tiny_checkpoint: Path, exported: Exporter) -> None:
    params = [
        SamplingParams(seed=index, max_tokens=5 + 3 * index, ignore_eos=True) for index in range(len(PROMPTS))
    ]
    alone = [llm.generate(prompt, one)[0].outputs for prompt, one in zip(PROMPTS, params, strict=True)]
    with LLM(exported(tiny_checkpoint, dtype="float32", prefill_chunk=8, batch=3)) as batched:
        assert batched.info.batch_size == 3
        assert [output.outputs for output in batched.generate(PROMPTS, params)] == alone
        assert batched.generate(PROMPTS[1], params[1])[0].outputs == alone[1]


def test_seeds(llm: LLM) -> None:
    seeded = SamplingParams(seed=5, ignore_eos=True)
    first, again = llm.generate(["The fox", "The fox"], seeded)
    assert first.outputs == again.outputs
    assert "".join(llm.stream("The fox", seeded)) == first.outputs[0].text
    free = SamplingParams(ignore_eos=True)
    assert llm.generate("The fox", free)[0].outputs != llm.generate("The fox", free)[0].outputs


def test_penalties_and_filters_reach_the_sampler(llm: LLM) -> None:
    plain = llm.generate("The fox", GREEDY)[0].outputs[0].token_ids
    for changes in ({"repetition_penalty": 1.9}, {"frequency_penalty": 2.0}, {"presence_penalty": 2.0}):
        changed = llm.generate("The fox", dataclasses.replace(GREEDY, **changes))[0].outputs[0].token_ids
        assert changed[0] == plain[0] or "repetition_penalty" in changes
        assert len(set(changed)) >= len(set(plain))
    for only_the_top in ({"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}):
        params = SamplingParams(max_tokens=12, ignore_eos=True, **only_the_top)  # type: ignore[arg-type]
        assert llm.generate("The fox", params)[0].outputs[0].token_ids == plain


def test_the_context_can_be_filled_to_its_end(llm: LLM) -> None:
    params = SamplingParams(temperature=0, max_tokens=None, ignore_eos=True)
    output = llm.generate("The fox", params)[0]
    assert len(output.prompt_token_ids) + len(output.outputs[0].token_ids) == llm.info.max_seq_len == 64
    assert output.outputs[0].finish_reason == "length"
    ids = (output.prompt_token_ids + output.outputs[0].token_ids)[:63]
    last = llm.generate({"prompt_token_ids": ids}, params)[0].outputs[0]
    assert last.token_ids == output.outputs[0].token_ids[-1:]


def test_two_threads_at_once(llm: LLM) -> None:
    expected = [output.outputs for output in llm.generate(PROMPTS, GREEDY)]
    results: dict[int, Any] = {}

    def work(index: int) -> None:
        results[index] = [output.outputs for output in llm.generate(PROMPTS, GREEDY)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {index: expected for index in range(3)}


def test_the_first_seed_document(llm: LLM) -> None:
    tokenizer = llm.get_tokenizer()
    user_input = "The fox found"
    model_input = tokenizer(user_input)["input_ids"]
    model_output = llm.generate(model_input, max_new_tokens=20, do_sample=True, top_k=3)
    assert model_output[0][: len(model_input)] == model_input
    assert len(model_output[0]) <= len(model_input) + 20
    assert tokenizer.decode(model_output[0]).startswith("<s>The fox found")


def test_the_second_seed_document(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mindir_llm.runtime import LLM, SamplingParams

    prompts = ["I am", "Today is", "Llama is"]
    sampling_params = SamplingParams(temperature=0.0, top_p=0.95)
    llm = LLM(model=str(tiny_bundle))
    outputs = llm.generate(prompts, sampling_params)
    for output in outputs:
        prompt = output.prompt
        generated_text = output.outputs[0].text
        print(f"Prompt: {prompt!r}. Generated text: {generated_text!r}")
    assert [line.split(". ")[0] for line in capsys.readouterr().out.splitlines() if "Prompt" in line] == [
        f"Prompt: {prompt!r}" for prompt in prompts
    ]


def test_bundles_that_cannot_be_opened(tmp_path: Path, tiny_bundle: Path) -> None:
    with pytest.raises(BundleError, match="nowhere"):
        LLM(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        LLM(tmp_path)
    with pytest.raises(InvalidArgumentError, match="threads is 0"):
        LLM(tiny_bundle, threads=0)
    with pytest.raises(InvalidArgumentError, match="NUL"):
        LLM("a\0b")


def test_chat(tmp_path: Path, tiny_checkpoint: Path, exported: Exporter) -> None:
    checkpoint = tmp_path / "chatty"
    shutil.copytree(tiny_checkpoint, checkpoint)
    template = "{% for m in messages %}{{ bos_token }}[{{ m.role }}] {{ m.content }}{% endfor %}{{ tail }}"
    (checkpoint / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    with LLM(exported(checkpoint, dtype="float32", prefill_chunk=8)) as llm:
        messages = [{"role": "user", "content": "The fox"}]
        (output,) = llm.chat(messages, GREEDY, tail="!")
        assert llm.get_tokenizer().decode(output.prompt_token_ids) == "<s>[user] The fox!"
        assert output.prompt_token_ids.count(1) == 1
        assert output.outputs == llm.generate("[user] The fox!", GREEDY)[0].outputs


def test_changed_weights_are_found_when_asked_for(tmp_path: Path, tiny_bundle: Path) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    weights = bytearray((bundle / "weights" / "data_0").read_bytes())
    weights[200] ^= 1
    (bundle / "weights" / "data_0").write_bytes(weights)
    with pytest.raises(BundleError, match="data_0"):
        LLM(bundle, verify_weights=True)


def test_text_needs_a_tokenizer(tmp_path: Path, exported: Exporter) -> None:
    from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

    config = tiny_config()
    checkpoint = write_checkpoint(tmp_path / "plain", config, random_tensors(config))
    with pytest.warns(UserWarning, match="no tokenizer"):
        bundle = exported(checkpoint, dtype="float32", prefill_chunk=8)
    with LLM(bundle) as plain:
        assert len(plain.generate([1, 2, 3], max_new_tokens=4)[0]) == 7
        with pytest.raises(InvalidArgumentError, match="needs a tokenizer"):
            plain.generate("text")
        with pytest.raises(TokenizerError, match="without a tokenizer"):
            plain.get_tokenizer()


# -- Graph


def test_graph_signature(tiny_bundle: Path) -> None:
    with Graph(tiny_bundle / "prefill.mindir") as graph:
        assert [str(info) for info in graph.inputs[:4]] == [
            "input_ids: int32[1, 8]",
            "input_position: int32[1]",
            "batch_valid_length: int32[1]",
            "key_cache.0: float32[1, 2, 64, 8]",
        ]
        assert [info.name for info in graph.outputs[:2]] == ["logits", "key_cache.0"]
        described = graph.describe()
        assert described["operators"] and described["parameters"] and described["arena_bytes"] > 0
    with pytest.raises(InvalidArgumentError, match="closed"):
        graph.run([])


@pytest.fixture(scope="module")
def decode(tiny_bundle: Path) -> Graph:
    return Graph(tiny_bundle / "decode.mindir")


def inputs_of(graph: Graph) -> dict[str, Any]:
    values = {info.name: np.zeros(info.shape, info.dtype) for info in graph.inputs}
    values["batch_valid_length"][:] = 1
    return values


def test_graph_inputs_by_name_or_order_give_copies(decode: Graph) -> None:
    values = inputs_of(decode)
    before = {name: value.copy() for name, value in values.items()}
    first = decode.run(values)
    second = decode.run([values[info.name] for info in decode.inputs])
    kept = {name: value.copy() for name, value in first.items()}
    decode.run({**values, "input_ids": [[7]], "input_position": [0], "batch_valid_length": [1]})
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_array_equal(first[name], kept[name])
    for name, value in values.items():
        np.testing.assert_array_equal(value, before[name])
    assert first["logits"].dtype == np.float32
    strided = np.zeros((1, 2, 64, 16), np.float32)[..., ::2]
    np.testing.assert_array_equal(decode.run({**values, "key_cache.0": strided})["logits"], first["logits"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"input_ids": np.zeros((1, 1), np.int64)},
            "input 'input_ids': dtype is int64, the graph takes int32",
        ),
        (
            {"input_ids": np.zeros((1, 2), np.int32)},
            r"'input_ids': shape is \[1, 2\], the graph takes \[1, 1\]",
        ),
        ({"input_ids": [[2**31]]}, r"2147483648 does not fit int32 \[-2147483648, 2147483647\]"),
        ({"input_ids": [[1.5]]}, "dtype is float64"),
        ({"input_ids": [[1], [2, 3]]}, "not an array"),
        ({"key_cache.0": np.zeros((1, 2, 64, 8), np.float16)}, "'key_cache.0': dtype is float16"),
        ({"colour": np.zeros(1)}, "has no input 'colour'; its inputs: input_ids, input_position"),
        ({"input_position": None}, "dtype is object"),
    ],
)
def test_graph_inputs_that_do_not_fit(decode: Graph, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        decode.run({**inputs_of(decode), **changes})


def test_graph_missing_inputs(decode: Graph) -> None:
    with pytest.raises(InvalidArgumentError, match="needs input 'input_position'"):
        decode.run({name: value for name, value in inputs_of(decode).items() if name != "input_position"})
    with pytest.raises(InvalidArgumentError, match="1 inputs given, the graph takes"):
        decode.run([np.zeros((1, 1), np.int32)])
    with pytest.raises(InvalidArgumentError, match="a dict or a list of arrays, not ndarray"):
        decode.run(np.zeros((1, 1), np.int32))  # type: ignore[arg-type]


def test_graph_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"missing\.mindir"):
        Graph(tmp_path / "missing.mindir")
    (tmp_path / "bad.mindir").write_bytes(b"not a graph")
    with pytest.raises(BundleError, match=r"bad\.mindir"):
        Graph(tmp_path / "bad.mindir")
