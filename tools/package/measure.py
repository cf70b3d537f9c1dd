"""How long the executable takes to its first token, and how much memory, on one core; and the record of it
that READMEs of packages quote: measured anew with every package, their bytes would never be the same twice.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from mindir_llm.tools.package.build import Built
from mindir_llm.tools.package.errors import PackageError

__all__ = ["RECORD", "Measurement", "first_token", "measure", "read_record", "record", "run_on_one_core"]

# Machine → kind of executable → what was measured.
RECORD = Path(__file__).with_name("measured.json")
RUNS = 21


@dataclass(frozen=True)
class Measurement:
    """Medians of several runs of one executable."""

    processor: str
    model: str  # scheme and size of the bundle
    seconds: float  # from the start to the end of a run that makes one token
    peak_bytes: int  # of resident memory
    runs: int


# What the system says of a process's peak counts what it was forked from. This is as small a parent as there
# is: built-in modules only. It prints seconds, exit status and peak (in KB) of a command on one core.
_PARENT = """
import posix, sys, time
begin = time.perf_counter()
child = posix.fork()
if child == 0:
    try:
        posix.sched_setaffinity(0, [min(posix.sched_getaffinity(0))])
        posix.dup2(posix.open("/dev/null", posix.O_WRONLY), 1)
        posix.execv(sys.argv[1], sys.argv[1:])
    finally:
        posix._exit(127)
_, status, usage = posix.wait4(child, 0)
print(time.perf_counter() - begin, posix.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def run_on_one_core(command: list[str]) -> tuple[float, int]:
    """Seconds from start to end, and the peak of resident memory in bytes."""
    parent = [sys.executable, "-I", "-S", "-c", _PARENT, *command]
    done = subprocess.run(parent, capture_output=True, text=True)
    seconds, status, peak = done.stdout.split()
    if status != "0":
        raise PackageError(f"{command[0]}: failed with status {status}")
    return float(seconds), int(peak) * 1024


def first_token(executable: Path, bundle: Path) -> tuple[float, int]:
    """A run that makes one token."""
    command = [str(executable), "run", str(bundle), "-p", "Once upon a time"]
    return run_on_one_core([*command, "--max-tokens", "1", "--threads", "1", "--quiet"])


def measure(executable: Path, bundle: Path, runs: int = RUNS) -> Measurement:
    first_token(executable, bundle)  # files come from memory in all runs that count
    seconds, peaks = zip(*(first_token(executable, bundle) for _ in range(runs)), strict=True)
    peak = int(statistics.median_low(peaks))
    return Measurement(_processor(), _model(bundle), round(statistics.median(seconds), 5), peak, runs)


def record(built: Built, bundle: Path, path: Path = RECORD) -> dict[str, Measurement]:
    """Measure both executables of this machine and put the numbers on record."""
    if not built.target.is_host():
        raise PackageError(f"{built.target.name}: only executables of this machine can be measured here")
    executables = {"dynamic": built.tree / "bin" / "mindir-llm", "static": built.static_executable}
    found = {kind: measure(executable, bundle) for kind, executable in executables.items()}
    everything = json.loads(path.read_text()) if path.is_file() else {}
    everything[built.target.name] = {kind: asdict(one) for kind, one in found.items()}
    path.write_text(json.dumps(dict(sorted(everything.items())), indent=2) + "\n")
    return found


def read_record(machine: str, kind: str, path: Path = RECORD) -> Measurement | None:
    """kind: dynamic or static; None where no executable of that machine was measured."""
    everything = json.loads(path.read_text()) if path.is_file() else {}
    found = everything.get(machine, {}).get(kind)
    return Measurement(**found) if found else None


def _model(bundle: Path) -> str:
    manifest = json.loads((bundle / "manifest.json").read_text())
    scheme = (manifest.get("quantization") or {}).get("scheme") or manifest["dtype"]
    size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
    return f"{scheme}, context {manifest['max_seq_len']}, a bundle of {size / 1e6:.1f} MB"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (
        line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model", "uarch"))
    )
    return next(names, os.uname().machine)


if __name__ == "__main__":
    try:
        print(measure(Path(sys.argv[1]), Path(sys.argv[2])))
    except PackageError as error:
        sys.exit(f"error: {error}")
