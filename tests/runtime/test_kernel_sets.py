"""Whole models on every kernel set of this machine, forced by MINDIR_LLM_ISA in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exporting import Exporter

KERNEL_SETS = ("generic", "avx2", "avxvnni", "avx512", "avx512vnni", "amx", "neon", "neondot", "neoni8mm")
DEMO = Path(__file__).parents[2] / "tools" / "demo_model" / "checkpoint"
PROMPT = [1, *range(20, 60)]

WORKER = """
import json, sys
from mindir_llm.runtime import LLM, SamplingParams
request = json.load(sys.stdin)
with LLM(request["bundle"], threads=2) as llm:
    session = llm._model.new_session()
    session.feed([(0, request["prompt"])])
    logits = [float(x) for x in session.logits(0)]
    params = SamplingParams(temperature=0, max_tokens=request["max_tokens"])
    (output,) = llm.generate({"prompt_token_ids": request["prompt"]}, params)
    answer = output.outputs[0]
    json.dump({"logits": logits, "ids": list(answer.token_ids), "text": answer.text}, sys.stdout)
"""


def run_on(isa: str, bundle: Path, prompt: list[int], max_tokens: int) -> dict:
    request = {"bundle": str(bundle), "prompt": prompt, "max_tokens": max_tokens}
    done = subprocess.run(
        [sys.executable, "-c", WORKER],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={**os.environ, "MINDIR_LLM_ISA": isa},
    )
    if f"MINDIR_LLM_ISA={isa}: this machine does not support it" in done.stderr:
        pytest.skip(f"this machine has no {isa}")
    assert done.returncode == 0, done.stderr
    answer: dict = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize("isa", KERNEL_SETS)
def test_float32_follows_the_reference(isa: str, exported: Exporter) -> None:
    from mindir_llm.tools.reference import ReferenceLlama

    bundle = exported(DEMO, dtype="float32", max_seq_len=96, prefill_chunk=16)
    answer = run_on(isa, bundle, PROMPT, 8)
    reference = ReferenceLlama(DEMO)
    logits = reference.feed(PROMPT)
    np.testing.assert_allclose(answer["logits"], logits, rtol=0, atol=1e-4)
    ids = []
    for _ in range(8):
        ids.append(int(np.argmax(logits)))
        logits = reference.feed(ids[-1:])
    assert answer["ids"] == ids


@pytest.mark.parametrize("isa", KERNEL_SETS)
def test_greedy_text_of_a_trained_model(isa: str, exported: Exporter, shared_data: Path) -> None:
    folder = shared_data / "models" / "stories260K"
    expected = (folder / "expected_stdout_karpathy_200steps.txt").read_text(encoding="utf-8")
    bundle = exported(folder / "hf", dtype="float32", prefill_chunk=64, max_seq_len=512)
    assert run_on(isa, bundle, [1], 200)["text"] == expected
