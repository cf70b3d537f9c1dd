"""A report and a profile as text."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mindir_llm.runtime.inspection import size
from mindir_llm.tools.bench.accounting import linear_bytes
from mindir_llm.tools.bench.errors import BenchError

__all__ = ["FORMAT", "FORMAT_VERSION", "profile_text", "read_report", "report_text"]

FORMAT = "mindir-llm-bench"
FORMAT_VERSION = 1

_ABSENT = "–"


def read_report(path: Path) -> dict[str, Any]:
    """A report that --json wrote, here or by the native executable; raises BenchError, OSError."""
    try:
        report = json.loads(path.read_bytes())
        found = (report["format"], report["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path}: no report that bench --json wrote") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise BenchError(f"{path}: format {found[0]!r} {found[1]!r}, expected {FORMAT!r} {FORMAT_VERSION}")
    try:
        report_text(report)
    except (KeyError, TypeError, ValueError) as error:
        raise BenchError(f"{path}: damaged report: {type(error).__name__}: {error}") from error
    return dict(report)


def report_text(report: dict[str, Any]) -> str:
    """The tables of one bundle's report."""
    bundle, machine, memory = report["bundle"], report["machine"], report["memory"]
    stored = bundle["dtype"] if bundle["scheme"] == "none" else f"{bundle['scheme']}, {bundle['dtype']}"
    lines = [
        f"{bundle['path']}: {stored}, KV cache {bundle['kv_dtype']}, {size(bundle['file_bytes'])}, "
        f"max_seq_len {bundle['max_seq_len']}" + (", exact activations" if bundle["exact"] else ""),
        f"{machine['cpu']}, {machine['threads']} threads" + _machine_text(machine),
        f"medians of {report['load_seconds']['count']} repetitions (lowest – highest)",
        "",
        f"{'prefill':>9} {'tokens/s':>10} {'':21} {'of multiply peak':>18}",
    ]
    for one in report["prefill"]:
        lines.append(
            f"{one['tokens']:>9} {_rate(one['tokens_per_second'])} {_share(one['share_of_peak']):>18}"
        )
    lines += [
        "",
        f"{'decode at':>9} {'tokens/s':>10} {'':21} {'of read bandwidth':>18} {'bytes/token':>12}",
    ]
    for one in report["decode"]:
        share = _share(one["share_of_read_bandwidth"])
        lines.append(
            f"{one['context']:>9} {_rate(one['tokens_per_second'])} {share:>18} "
            f"{size(round(one['bytes_per_token'])):>12}"
        )
    first, load = report["first_token"], report["load_seconds"]
    peak = _ABSENT if memory["peak"] is None else size(memory["peak"])
    lines += [
        "",
        f"first token   {first['seconds']['median'] * 1e3:.2f} ms, {first['decode_steps']['median']:.2f} "
        "decode steps (prompt of one token)",
        f"load          {load['median'] * 1e3:.1f} ms ({load['low'] * 1e3:.1f} – {load['high'] * 1e3:.1f}), "
        "page cache warm, fresh process",
        f"peak memory   {peak} resident; weights + KV cache are {size(memory['floor'])}"
        + ("" if memory["peak"] is None else f", the program alone was {size(memory['before_open'])}"),
    ]
    lines += [f"note: {note}" for note in report["notes"]]
    return "\n".join(lines)


def profile_text(profile: dict[str, Any]) -> str:
    """Where time goes, per operator; linear operators per role, with the speed their weights are read at."""
    lines = []
    for phase, what in (
        ("prefill", f"{profile['prompt_tokens']} tokens"),
        ("decode", f"{profile['decode_steps']} steps"),
    ):
        entries = profile["report"].get(phase, [])
        total = sum(one["seconds"] for one in entries)
        rows = _grouped(entries, profile["parameters"])
        width = max((len(name) for name, *_ in rows), default=8)
        lines += [
            f"{phase}, {what}: {total * 1e3:.1f} ms in operators",
            f"  {'operator':{width}} {'calls':>7} {'ms':>10} {'share':>7} {'GB/s':>7}",
        ]
        for name, calls, seconds, nbytes in rows:
            speed = f"{nbytes / seconds / 1e9:.1f}" if nbytes is not None and seconds > 0 else _ABSENT
            share = f"{seconds / total:.1%}" if total > 0 else _ABSENT
            lines.append(f"  {name:{width}} {calls:>7} {seconds * 1e3:>10.2f} {share:>7} {speed:>7}")
        lines.append("")
    return "\n".join(lines[:-1])


def _grouped(
    entries: Iterable[dict[str, Any]], parameters: Sequence[dict[str, Any]]
) -> list[tuple[str, int, float, int | None]]:
    """(label, calls, seconds, bytes read or None), most time first. Layers that differ by number are one."""
    groups: dict[str, tuple[int, float, int | None]] = {}
    for one in entries:
        label, read = one["operator"], None
        if "linear" in one["operator"].lower():
            label = f"{one['operator']} {re.sub(r'(?<=[.])[0-9]+(?=[.])', '*', one['name'])}"
            stored = linear_bytes(one["name"], parameters)
            read = None if stored is None else stored * one["calls"]
        calls, seconds, total = groups.get(label, (0, 0.0, 0))
        known = None if read is None or total is None else total + read
        groups[label] = (calls + one["calls"], seconds + one["seconds"], known)
    rows = [(label, *values) for label, values in groups.items()]
    return sorted(rows, key=lambda row: -row[2])


def _machine_text(machine: dict[str, Any]) -> str:
    if machine["read_bandwidth"] is None:
        return ""
    text = (
        f"; reads {machine['read_bandwidth']['median'] / 1e9:.1f} GB/s, "
        f"multiplies {machine['int8_macs']['median'] / 1e9:.0f} int8 GMAC/s"
    )
    matrix = machine["matrix_macs"]["median"]
    return text + (f" ({matrix / 1e9:.0f} in the matrix unit)" if matrix else "")


def _rate(sample: dict[str, float]) -> str:
    spread = f"({sample['low']:.1f} – {sample['high']:.1f})"
    return f"{sample['median']:>10.1f} {spread:21}"


def _share(sample: dict[str, float] | None) -> str:
    return _ABSENT if sample is None else f"{sample['median']:.1%}"
