"""Starts workers and reads what they measured."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from typing import Any

from mindir_llm.tools.bench.errors import BenchError

__all__ = ["ignore", "run_worker"]

_MODULE = "mindir_llm.tools.bench.worker"


def ignore(_: int) -> None:
    """The progress callback of those who do not look."""


def run_worker(
    request: dict[str, Any], progress: Callable[[int], None] = ignore, module: str = _MODULE
) -> dict[str, Any]:
    """Run one step in a fresh Python process and return its result.

    BenchError with the worker's own one-line error, or with the end of its stderr where it died.
    """
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            encoding="utf-8",
        ) as process,
    ):
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(request))
            process.stdin.close()
            for text in process.stdout:
                line = json.loads(text)
                if "progress" in line:
                    progress(line["progress"])
                elif "result" in line:
                    result: dict[str, Any] = line["result"]
                    return result
                else:
                    raise BenchError(line["error"])
        except (BrokenPipeError, json.JSONDecodeError):
            pass  # it died while it read or wrote; its stderr says why
        finally:
            if process.poll() is None:
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
        process.wait()
        errors.seek(0)
        lines = errors.read().strip().splitlines() or ["it wrote nothing to stderr"]
        raise BenchError(f"measuring {request['step']} ended with status {process.returncode}: {lines[-1]}")
