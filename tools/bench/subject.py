"""Bundles of well-known shapes with random weights, made once and kept in a work folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.random_checkpoint import SHAPES, write_random_checkpoint

__all__ = ["KV_DTYPES", "QUANTIZATIONS", "default_workdir", "make_bundle", "make_checkpoint"]

QUANTIZATIONS = ("a16w8", "a16w4", "none")
KV_DTYPES = ("float16", "float32", "int8")


def default_workdir() -> Path:
    """Where bundles are kept between runs."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mindir-llm" / "bench"


def make_checkpoint(shape: str, workdir: Path) -> Path:
    """The random checkpoint of a shape (a key of SHAPES), written at the first call."""
    folder = workdir / shape / "checkpoint"
    # config.json is written last, so a folder that has one is whole.
    if not (folder / "config.json").exists():
        _say(f"writing {folder}")
        write_random_checkpoint(SHAPES[shape], folder)
    return folder


def make_bundle(
    shape: str, quant: str, workdir: Path, *, kv_dtype: str | None = None, fresh: bool = False
) -> Path:
    """A bundle of that shape, exported at the first call, or where fresh in any case. kv_dtype: None is
    export's default. BenchError: the export failed."""
    bundle = workdir / shape / (f"bundle-{quant}" + (f"-kv-{kv_dtype}" if kv_dtype else ""))
    if fresh:
        shutil.rmtree(bundle, ignore_errors=True)
    if (bundle / "manifest.json").exists():
        return bundle
    checkpoint = make_checkpoint(shape, workdir)
    _say(f"exporting {bundle}")
    # In its own process: MindSpore's memory would stay with this one.
    command = [sys.executable, "-m", "mindir_llm.tools.bench.export", str(checkpoint), str(bundle)]
    command += ["--quant", quant, *(["--kv-dtype", kv_dtype] if kv_dtype else [])]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("mindir-llm: error: ")]
        reason = lines[-1].removeprefix("mindir-llm: error: ") if lines else done.stderr.strip()[-500:]
        raise BenchError(f"cannot export {shape} as {quant}: {reason}")
    return bundle


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
