"""Speed for a report: what `mindir-llm bench` finds in a few seconds on this machine.

The bench is run as a user would run it, in a process of its own: an export knows bundles, not what runs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Rate", "Speed", "measure_speed", "speed_of"]

# Beside the weights: what Python, the KV caches and the arena of a plan take.
_SPARE_BYTES = 1 << 30


@dataclass(frozen=True)
class Rate:
    """what: 'decode after 16 tokens'. share: of `limit`, the best that the machine could do; None where that
    is not known. bytes_read: for one token, None where weights are not read for each."""

    what: str
    tokens_per_second: float
    share: float | None
    limit: str
    bytes_read: float | None = None


@dataclass(frozen=True)
class Speed:
    """machine: 'Intel …, 2 threads'. load_seconds, peak_bytes: of a fresh process that opens the bundle; the
    latter None where the system does not tell. problem: why nothing could be measured, '' if it was."""

    machine: str = ""
    rates: tuple[Rate, ...] = ()
    load_seconds: float = 0.0
    peak_bytes: int | None = None
    problem: str = ""


def measure_speed(bundle: Path) -> Speed:
    """Run the bench over a bundle. Never raises for what it finds: a report is worth having without speed."""
    needed = sum(file.stat().st_size for file in bundle.rglob("*") if file.is_file()) + _SPARE_BYTES
    available = _available_memory()
    if available is not None and available < needed:
        return Speed(
            problem=f"it takes {needed / 1e9:.1f} GB of memory, and {available / 1e9:.1f} GB are free here"
        )
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "bench.json"
        command = [sys.executable, "-m", "mindir_llm.runtime.cli", "bench", str(bundle), "--quick"]
        done = subprocess.run(
            [*command, "--json", str(result)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"mindir-llm bench ended with {done.returncode}"]
            return Speed(problem=lines[-1].removeprefix("mindir-llm: error: "))
        return speed_of(json.loads(result.read_text(encoding="utf-8")))


def speed_of(report: Mapping[str, Any]) -> Speed:
    """From the JSON of `mindir-llm bench`."""

    def median(sample: Mapping[str, Any] | None) -> float | None:
        return None if sample is None else float(sample["median"])

    rates = [
        Rate(
            f"prefill of {one['tokens']} tokens",
            float(one["tokens_per_second"]["median"]),
            median(one["share_of_peak"]),
            "multiply peak",
        )
        for one in report["prefill"]
    ] + [
        Rate(
            f"decode after {one['context']} tokens",
            float(one["tokens_per_second"]["median"]),
            median(one["share_of_read_bandwidth"]),
            "read bandwidth",
            float(one["bytes_per_token"]),
        )
        for one in report["decode"]
    ]
    machine = report["machine"]
    threads = machine["threads"]
    return Speed(
        f"{machine['cpu']}, {threads} thread{'' if threads == 1 else 's'}",
        tuple(rates),
        float(report["load_seconds"]["median"]),
        report["memory"]["peak"],
    )


def _available_memory() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
