"""What every worker does, whatever engine it drives. Standard library only: it runs in the engines' own
environments.

One JSON request on stdin: {"model", "threads", "max_seq_len", "vocab_size", "prompt", "short_context",
"long_context", "decode_steps"}, lengths in tokens. One JSON line on stdout: {"result": {…}}, seconds and
bytes, or {"error": "one line"}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol


class Engine(Protocol):
    """A loaded model. Every call starts from an empty context."""

    def prefill(self, ids: list[int]) -> float:
        """Seconds until the logits that follow the prompt are there."""

    def decode(self, ids: list[int], steps: int) -> float:
        """Seconds of `steps` tokens one by one after the prompt, whose own time does not count."""


# (model, threads, max_seq_len) -> Engine
Opener = Callable[[str, int, int], Engine]


def run(load_module: Callable[[], Opener]) -> None:
    """Measure and exit. load_module imports the engine's package and returns what opens a model."""
    request = json.load(sys.stdin)
    # Libraries print to stdout what they like; the result goes where it was.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        line: dict[str, Any] = {"result": _measure(request, load_module)}
    except Exception as error:
        line = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"[:500]}
    out.write(json.dumps(line) + "\n")
    out.flush()
    os._exit(0)  # tearing down gigabytes is not measured


def token_ids(count: int, vocab_size: int, salt: int) -> list[int]:
    """Arbitrary ids, none of the special ones (0 … 2); another salt gives another first token."""
    return [3 + (7919 * position + 13 + salt) % (vocab_size - 3) for position in range(count)]


def _measure(request: dict[str, Any], load_module: Callable[[], Opener]) -> dict[str, Any]:
    begin = time.perf_counter()
    opener = load_module()
    imported = time.perf_counter()
    baseline = _status_bytes("VmHWM")
    model = opener(request["model"], request["threads"], request["max_seq_len"])
    opened = time.perf_counter()
    steps, vocab_size = request["decode_steps"], request["vocab_size"]

    def prompt(salt: int, length: str) -> list[int]:
        return token_ids(request[length], vocab_size, salt)

    # Everything once before it counts: pages are touched, kernels are chosen for the shapes. Every prompt
    # begins with another token: some engines remember the prompts they have seen.
    model.prefill(prompt(1, "prompt"))
    model.decode(prompt(2, "short_context"), 4)
    prefill = model.prefill(prompt(3, "prompt"))
    decode_short = model.decode(prompt(4, "short_context"), steps)
    peak = _status_bytes("VmHWM")
    decode_long = model.decode(prompt(5, "long_context"), steps)
    return {
        "import_seconds": imported - begin,
        "load_seconds": opened - imported,
        "prefill_seconds": prefill,
        "decode_short_seconds": decode_short,
        "decode_long_seconds": decode_long,
        "baseline_rss": baseline,
        "peak_rss": peak,
    }


def _status_bytes(field: str) -> int | None:
    """A field of /proc/self/status in bytes; None where there is no such file."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None
