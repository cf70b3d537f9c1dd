"""Bundles of well-known shapes with random weights, made once and kept in a work folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.random_checkpoint import SHAPES, write_random_checkpoint

__all__ = ["KV_DTYPES", "QUANTIZATIONS", "default_workdir", "make_bundle", "make_checkpoint"]

_ZERO = {"weight_symmetric": False}
_CHANNEL = {"weight_quant_granularity": "per_channel", "group_size": 0}


def _groups(size: int) -> Mapping[str, Any]:
    return {"weight_quant_granularity": "per_group", "group_size": size}


# Fields of export's configuration. "zero": with zero points.
QUANTIZATIONS: Mapping[str, Mapping[str, Any]] = {
    "none": {"preset": "none"},
    "a16w8": {"preset": "a16w8"},
    "a16w8-zero": {"preset": "a16w8", **_ZERO},
    "a16w8-g32": {"preset": "a16w8", **_groups(32)},
    "a16w8-g32-zero": {"preset": "a16w8", **_groups(32), **_ZERO},
    "a16w8-g64": {"preset": "a16w8", **_groups(64)},
    "a16w8-g64-zero": {"preset": "a16w8", **_groups(64), **_ZERO},
    "a16w8-g128": {"preset": "a16w8", **_groups(128)},
    "a16w8-g128-zero": {"preset": "a16w8", **_groups(128), **_ZERO},
    "a16w4": {"preset": "a16w4"},
    "a16w4-zero": {"preset": "a16w4", **_ZERO},
    "a16w4-g64": {"preset": "a16w4-g64"},
    "a16w4-g64-zero": {"preset": "a16w4-g64", **_ZERO},
    "a16w4-g128": {"preset": "a16w4-g128"},
    "a16w4-g128-zero": {"preset": "a16w4-g128", **_ZERO},
    "a16w4-channel": {"preset": "a16w4", **_CHANNEL},
    "a16w4-channel-zero": {"preset": "a16w4", **_CHANNEL, **_ZERO},
    "a8w8": {"preset": "a8w8"},
    "a8w8-dynamic": {"preset": "a8w8-dynamic"},
}
# Presets whose grids come from a calibration; random weights need no text that means anything.
_CALIBRATED = ("a8w8",)
_CALIBRATION_TOKENS = 64
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
    command += [*_quant_flags(quant, shape, workdir), *(["--kv-dtype", kv_dtype] if kv_dtype else [])]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("mindir-llm: error: ")]
        reason = lines[-1].removeprefix("mindir-llm: error: ") if lines else done.stderr.strip()[-500:]
        raise BenchError(f"cannot export {shape} as {quant}: {reason}")
    return bundle


def _quant_flags(quant: str, shape: str, workdir: Path) -> list[str]:
    """Files that export is to read are written into workdir."""
    config = workdir / shape / f"quantization-{quant}.json"
    config.write_text(json.dumps(QUANTIZATIONS[quant]))
    flags = ["--quant-config", str(config)]
    if QUANTIZATIONS[quant]["preset"] in _CALIBRATED:
        text = workdir / shape / "calibration.jsonl"
        ids = [7919 * i % SHAPES[shape]["vocab_size"] for i in range(_CALIBRATION_TOKENS)]
        text.write_text(json.dumps({"token_ids": ids}) + "\n")
        flags += ["--calibration", str(text)]
    return flags


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
