"""A real trained model: greedy text equals, byte for byte, what the program that trained it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from exporting import Exporter

from mindir_llm.runtime import LLM, SamplingParams


@pytest.fixture(scope="module")
def expected(shared_data: Path) -> str:
    path = shared_data / "models" / "stories260K" / "expected_stdout_karpathy_200steps.txt"
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkpoint(shared_data: Path) -> Path:
    return shared_data / "models" / "stories260K" / "hf"


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_200_greedy_steps(
    checkpoint: Path, exported: Exporter, expected: str, chunk: int, threads: int
) -> None:
    bundle = exported(checkpoint, dtype="float32", prefill_chunk=chunk, max_seq_len=512)
    params = SamplingParams(temperature=0, max_tokens=200)
    with LLM(bundle, threads=threads) as llm:
        (output,) = llm.generate({"prompt_token_ids": [1]}, params)
        assert output.outputs[0].text == expected
        assert output.outputs[0].finish_reason == "length"
        assert llm.generate("", params)[0].outputs[0].text == expected
        assert "".join(llm.stream({"prompt_token_ids": [1]}, params)) == expected
        # The same continuation after a prompt that fills several chunks.
        half = output.outputs[0].token_ids[:100]
        (rest,) = llm.generate(
            {"prompt_token_ids": [1, *half]}, SamplingParams(temperature=0, max_tokens=100)
        )
        assert rest.outputs[0].token_ids == output.outputs[0].token_ids[100:]


def test_the_command_prints_it(checkpoint: Path, exported: Exporter, expected: str) -> None:
    bundle = exported(checkpoint, dtype="float32", prefill_chunk=64, max_seq_len=512)
    command = [sys.executable, "-m", "mindir_llm.runtime.cli", "run", str(bundle), "-p", ""]
    done = subprocess.run(
        [*command, "--temperature", "0", "--max-tokens", "200"], capture_output=True, check=True
    )
    assert done.stdout.decode() == expected + "\n"
    assert b"decode 199 tokens" in done.stderr
