"""A program compiled against an earlier header runs with this library."""

from __future__ import annotations

import copy
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mindir_llm.runtime import LLM, SamplingParams

HERE = Path(__file__).parent / "abi"
sys.path.append(str(HERE))
from describe import HEADER, INTERFACE, changes, describe  # noqa: E402

pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(struct.calcsize("P") != 8, reason="interface.json has the layout of 64-bit machines"),
]


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return describe(HEADER)


def test_nothing_that_programs_use_has_changed(now: dict[str, Any]) -> None:
    assert changes(json.loads(INTERFACE.read_text()), now) == []


def test_the_previous_header_is_part_of_it(now: dict[str, Any]) -> None:
    assert changes(describe(HERE / "previous.h"), now) == []


def test_everything_is_on_record(now: dict[str, Any]) -> None:
    assert json.loads(INTERFACE.read_text()) == now, "run: python tests/native/abi/describe.py"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d["functions"].pop("mllm_version"),
            "mllm_version: was const char* mllm_version(void), is None",
        ),
        (lambda d: d["functions"].update(mllm_version="int mllm_version(void)"), "mllm_version: was"),
        (lambda d: d["enums"].update(MLLM_ERROR_IO=9), "MLLM_ERROR_IO: was 2, is 9"),
        (lambda d: d["structs"].pop("mllm_token"), "mllm_token: is gone"),
        (lambda d: d["structs"]["mllm_tensor"]["fields"].reverse(), "mllm_tensor: a field has another"),
        (lambda d: d["structs"]["mllm_segment"].update(size=32), "mllm_segment: had 24 bytes, has 32"),
    ],
)
def test_changes_are_found(change: Callable[[Any], Any], message: str, now: dict[str, Any]) -> None:
    changed = copy.deepcopy(now)
    change(changed)
    (found,) = changes(now, changed)
    assert found.startswith(message)


def test_structures_that_say_their_size_may_grow(now: dict[str, Any]) -> None:
    grown = copy.deepcopy(now)
    grown["structs"]["mllm_generate_options"]["fields"].append(["later", "int32_t", 144, 4])
    grown["structs"]["mllm_generate_options"]["size"] += 8
    assert changes(now, grown) == []


def test_an_old_program_runs(installed: Path, bundle: Path, tmp_path: Path) -> None:
    (library,) = installed.glob("lib*/**/libmindir_llm.so")
    program = tmp_path / "program"
    command = ["cc", "-std=c99", "-Wall", "-Werror", HERE / "program.c", "-o", program, library]
    subprocess.run([*command, f"-Wl,-rpath,{library.parent}"], check=True)
    prompt = "Once upon a time"
    done = subprocess.run(
        [program, bundle, prompt, bundle / "decode.mindir"],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"},
    )
    assert done.returncode == 0, done.stderr
    with LLM(bundle) as llm:
        params = SamplingParams(top_k=20, seed=11, max_tokens=20, ignore_eos=True)
        expected = "".join(llm.stream(prompt, params))
    assert done.stdout == expected + "\n"
