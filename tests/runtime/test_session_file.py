"""What a call left in the KV cache, kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fake_backend import FakeModel, hashed

from mindir_llm.runtime import LLM, BundleError, InvalidArgumentError, SamplingParams

GREEDY = SamplingParams(temperature=0, max_tokens=4, ignore_eos=True)


def test_a_new_process_goes_on(tmp_path: Path) -> None:
    first = LLM.from_backend(FakeModel(hashed(), batch_size=2))
    with pytest.raises(InvalidArgumentError, match="no finished call"):
        first.save_session(tmp_path / "file")
    prompts = [{"prompt_token_ids": [1, 2, 3, 4]}, {"prompt_token_ids": [5, 6, 7]}]
    expected = [output.outputs for output in first.generate(prompts, GREEDY)]
    first.save_session(tmp_path / "file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    other = LLM.from_backend(FakeModel(hashed(), batch_size=2))
    other.load_session(tmp_path / "file")
    outputs = other.generate(prompts, GREEDY)
    assert [output.outputs for output in outputs] == expected
    assert [output.metrics.cached_tokens for output in outputs] == [3, 2]
    # Fewer slots take what fits.
    small = LLM.from_backend(FakeModel(hashed()))
    small.load_session(tmp_path / "file")
    assert small.generate(prompts[0], GREEDY)[0].metrics.cached_tokens == 3


def test_the_engine_s_caches(tiny_bundle: Path, tmp_path: Path) -> None:
    text = "Once upon a time there was a little fox"
    with LLM(tiny_bundle) as llm:
        (expected,) = llm.generate(text, GREEDY)
        llm.save_session(tmp_path / "file")
    with LLM(tiny_bundle) as llm:
        llm.load_session(tmp_path / "file")
        (output,) = llm.generate(text, GREEDY)
        assert output.outputs == expected.outputs
        assert output.metrics.cached_tokens == len(output.prompt_token_ids) - 1

        content = (tmp_path / "file").read_bytes()
        header = content.index(b"\n", content.index(b"\n") + 1) + 1
        entry = json.loads(content.split(b"\n")[1])[0]
        lies = [
            b"",
            b"something else\n" + content,
            content[:30],
            content[:-1],
            content + b"x",
            content[: header + 200] + bytes([content[header + 200] ^ 1]) + content[header + 201 :],
        ]
        first = content.split(b"\n")[0] + b"\n"
        wrongs = [{"tokens": [-1]}, {"tokens": "x"}, {"bytes": -5}, {"bytes": True}]
        for wrong in [*wrongs, {"tokens": entry["tokens"][1:]}]:
            lies.append(first + json.dumps([{**entry, **wrong}]).encode() + b"\n" + content[header:])
        lies += [first + line + b"\n" + content[header:] for line in (b"5", b"[5]", b"[{}]", b"\xff")]
        for lie in lies:
            (tmp_path / "lie").write_bytes(lie)
            with pytest.raises(BundleError, match="saved"):
                llm.load_session(tmp_path / "lie")
        with pytest.raises(FileNotFoundError):
            llm.load_session(tmp_path / "nowhere")


def test_another_bundle_s_session(tiny_bundle: Path, tmp_path: Path) -> None:
    with LLM(tiny_bundle) as llm:
        llm.generate("The fox", GREEDY)
        llm.save_session(tmp_path / "file")
    altered = tmp_path / "bundle"
    altered.mkdir()
    for path in tiny_bundle.iterdir():
        if path.name != "manifest.json":
            (altered / path.name).symlink_to(path)
    (altered / "manifest.json").write_text((tiny_bundle / "manifest.json").read_text() + "\n")
    with LLM(altered) as llm, pytest.raises(BundleError, match="belongs to another bundle"):
        llm.load_session(tmp_path / "file")
