"""How long the executable takes to its first token, and how much memory, on one core."""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["first_token", "main"]


def first_token(executable: Path, bundle: Path) -> tuple[float, int]:
    """Seconds from start to end of a run that makes one token, and its peak memory in bytes."""
    command = [str(executable), "run", str(bundle), "-p", "Once upon a time"]
    command += ["--max-tokens", "1", "--threads", "1", "--quiet"]
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.execv(executable, command)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - begin
    if status:
        raise SystemExit(f"{executable}: failed with status {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m mindir_llm.tools.package.measure", description=__doc__)
    parser.add_argument("executable", type=Path)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--repeat", type=int, default=21, help="runs (default: 21)")
    parsed = parser.parse_args(arguments)
    runs = [first_token(parsed.executable, parsed.bundle) for _ in range(parsed.repeat)]
    seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
    took, peak = f"{seconds * 1e3:.1f} ms", f"{memory / 1e6:.1f} MB"
    print(f"first token after {took}, at most {peak}; one core, medians of {len(runs)} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
