"""The runtime is light: what importing it loads, and how long that takes."""

from __future__ import annotations

import subprocess
import sys


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_runtime_imports_no_framework() -> None:
    heavy = ["mindspore", "torch", "transformers", "sentencepiece", "jinja2", "safetensors"]
    code = "import sys, mindir_llm.runtime, mindir_llm.runtime.cli, mindir_llm.tokenizer\n"
    assert python(code + f"print([name for name in {heavy} if name in sys.modules])").strip() == "[]"


def test_the_import_takes_less_than_a_third_of_a_second() -> None:
    # CPU time: a busy neighbour must not fail the test.
    code = (
        "from time import process_time as now; start = now(); import mindir_llm.runtime; print(now() - start)"
    )
    assert min(float(python(code)) for _ in range(3)) < 0.3
