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

from mindir_llm.runtime import LLM, SamplingParams, _native

HERE = Path(__file__).parent / "abi"
sys.path.append(str(HERE))
from describe import HEADER, INTERFACE, changes, describe  # noqa: E402

PROMPT = "Once upon a time"
pytestmark = [
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler"),
    pytest.mark.skipif(struct.calcsize("P") != 8, reason="interface.json has the layout of 64-bit machines"),
]


@pytest.fixture(scope="module")
def now() -> dict[str, Any]:
    return describe(HEADER)


def test_nothing_that_programs_use_has_changed(now: dict[str, Any]) -> None:
    assert changes(json.loads(INTERFACE.read_text()), now) == []


@pytest.mark.parametrize("header", sorted(HERE.glob("*.h")), ids=lambda path: path.stem)
def test_previous_headers_are_part_of_it(header: Path, now: dict[str, Any]) -> None:
    assert changes(describe(header), now) == []


def test_every_structure_and_function_is_looked_at(now: dict[str, Any]) -> None:
    """By a count that does not share the patterns of describe.py."""
    lines = HEADER.read_text().splitlines()
    opened = [line.split()[2] for line in lines if line.startswith("typedef struct") and line.endswith("{")]
    assert sorted(now["structs"]) == sorted(opened) and len(opened) > 10
    assert all(found["fields"] and found["size"] > 0 for found in now["structs"].values())
    assert sorted(now["functions"]) == sorted(_native.PROTOTYPES)
    closed = [line.split()[-1].strip("};") for line in lines if line.startswith("} mllm_")]
    assert sorted(closed) == sorted(
        opened + [line.split()[2] for line in lines if line.startswith("typedef enum")]
    )


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


def run_old(source: str, installed: Path, folder: Path, *words: str | Path) -> str:
    """What a program prints that was compiled against an old header, linked to the installed library."""
    (library,) = installed.glob("lib*/**/libmindir_llm.so")
    program = folder / "program"
    strict = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Werror"]
    command = ["cc", *strict, HERE / source, "-o", program, library, f"-Wl,-rpath,{library.parent}"]
    subprocess.run(command, check=True)
    environment = {name: value for name, value in os.environ.items() if name != "LD_LIBRARY_PATH"}
    done = subprocess.run([program, *words], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def expected(bundle: Path) -> str:
    with LLM(bundle) as llm:
        params = SamplingParams(top_k=20, seed=11, max_tokens=20, ignore_eos=True)
        return "".join(llm.stream(PROMPT, params))


def test_an_old_program_runs(installed: Path, bundle: Path, tmp_path: Path, expected: str) -> None:
    found = run_old("program.c", installed, tmp_path, bundle, PROMPT, bundle / "decode.mindir")
    assert found == expected + "\n"


def test_an_old_program_with_a_generator_runs(
    installed: Path, bundle: Path, tmp_path: Path, expected: str
) -> None:
    found = run_old("program_generator.c", installed, tmp_path, bundle, PROMPT)
    assert found == expected + '\n{"a": 1}\n'
