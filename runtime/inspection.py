"""What is in a bundle or a MindIR file: facts for programs, and the same as text."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from .graph import Graph


def graph(path: Path) -> dict[str, Any]:
    """One MindIR file: the engine's description, with sums. Sizes in bytes."""
    with Graph(path, threads=1) as loaded:
        described = loaded.describe()
    by_dtype: dict[str, int] = {}
    for parameter in described["parameters"]:
        by_dtype[parameter["dtype"]] = by_dtype.get(parameter["dtype"], 0) + parameter["nbytes"]
    return {
        "path": str(path),
        **described,
        "memory": {"weights": by_dtype, "arena": described["arena_bytes"]},
    }


def bundle(path: Path) -> dict[str, Any]:
    """A bundle: its manifest's facts, the sizes the engine found, and both graphs."""
    from .native_backend import NativeModel

    model = NativeModel(path, threads=1)
    info, manifest = model.info, model.manifest
    model.close()  # the graphs below load the weights again; not everything at once
    graphs = {name: graph(path / file) for name, file in sorted(manifest["graphs"].items())}
    kept = ("producer", "target", "dtype", "kv_dtype", "batch_size", "max_seq_len", "prefill_chunk")
    return {
        "path": str(path),
        **{name: manifest[name] for name in kept},
        "kv_granularity": manifest.get("kv_granularity"),
        "model": manifest["model"],
        "quantization": manifest["quantization"],
        "tokenizer": manifest["tokenizer"],
        "files": manifest["files"],
        "fused": info.fused,
        "memory": {
            "weights": info.weight_bytes,
            "kv_cache": info.kv_cache_bytes,
            "arena": max(one["arena_bytes"] for one in graphs.values()),
        },
        "graphs": graphs,
    }


def as_text(report: dict[str, Any]) -> str:
    """Either report, to be read."""
    lines = _bundle_lines(report) if "graphs" in report else _graph_lines(report)
    return "\n".join(lines)


def size(nbytes: int) -> str:
    """1536 → "1.5 kB"."""
    if nbytes < 1000:
        return f"{nbytes} B"
    power = min(int(math.log10(nbytes) // 3), 3)
    return f"{nbytes / 1000**power:.1f} {' kMG'[power]}B"


def _bundle_lines(report: dict[str, Any]) -> list[str]:
    memory = report["memory"]
    tokenizer = report["tokenizer"]
    lines = [
        f"bundle        {report['path']} ({report['producer']})",
        "model         " + ", ".join(f"{name} {value}" for name, value in report["model"].items()),
        f"target        {report['target']}, {report['dtype']}, KV cache {report['kv_dtype']}"
        + (f" {report['kv_granularity']}" if report["kv_granularity"] else ""),
        f"shapes        batch {report['batch_size']}, max_seq_len {report['max_seq_len']}, "
        f"prefill chunk {report['prefill_chunk']}",
        f"quantization  {_quantization(report['quantization'])}",
        *(f"{'':<14}{line}" for line in _exceptions(report["quantization"].get("layers", {}))),
        f"tokenizer     {tokenizer['kind'] if tokenizer else 'none: token ids only'}"
        + (", chat template" if tokenizer and tokenizer["chat_template"] else ""),
        f"memory        weights {size(memory['weights'])}, KV cache {size(memory['kv_cache'])} a session, "
        f"arena {size(memory['arena'])}",
        f"execution     {'fused' if report['fused'] else 'node by node: part of the graphs is not fused'}",
        "files         " + ", ".join(f"{name} {size(one['size'])}" for name, one in report["files"].items()),
    ]
    for name, one in report["graphs"].items():
        lines += ["", f"{name}: {one['path']}", *("  " + line for line in _graph_lines(one))]
    return lines


def _quantization(entry: dict[str, Any]) -> str:
    """'a16w4 (rtn, int4 weights, one scale per 32 inputs of an output channel)'; says only what is there."""
    details = []
    if "method" in entry:
        details.append(f"{entry['method']}")
    if "weight_bits" in entry:
        details.append(f"int{entry['weight_bits']} weights")
    if "activation_bits" in entry:
        details.append(f"int{entry['activation_bits']} activations")
    if entry.get("group_size"):
        details.append(f"one scale per {entry['group_size']} inputs of an output channel")
    elif "granularity" in entry:
        details.append("one scale per output channel")
    return entry["scheme"] + (f" ({', '.join(details)})" if details else "")


def _exceptions(layers: dict[str, dict[str, Any] | None]) -> list[str]:
    """Linear layers that differ from the others: 'q_proj, k_proj of layers 0–3, 7: float'."""
    by_kind: dict[tuple[str, str], list[int]] = {}
    for name, entry in layers.items():
        parts = name.split(".")
        found = by_kind.setdefault((parts[-1], "float" if entry is None else _quantization(entry)), [])
        found += [int(part) for part in parts if part.isdecimal()]
    alike: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for (kind, what), numbers in by_kind.items():
        alike.setdefault((tuple(sorted(numbers)), what), []).append(kind)
    return [
        ", ".join(kinds) + (f" of layers {_ranges(numbers)}" if numbers else "") + f": {what}"
        for (numbers, what), kinds in alike.items()
    ]


def _ranges(numbers: tuple[int, ...]) -> str:
    """(0, 1, 2, 5) → "0–2, 5"; the numbers ascend."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join("–".join(map(str, run)) for run in runs)


def _graph_lines(report: dict[str, Any]) -> list[str]:
    memory = report["memory"]
    weights = ", ".join(f"{dtype} {size(nbytes)}" for dtype, nbytes in sorted(memory["weights"].items()))
    return [
        *_tensors("inputs", report["inputs"]),
        *_tensors("outputs", report["outputs"]),
        "operators     " + _counts(report["operators"]),
        "plan          " + _counts(report["plan"]),
        f"weights       {len(report['parameters'])} tensors: {weights or 'none'}",
        f"arena         {size(memory['arena'])}",
    ]


def _tensors(title: str, tensors: list[dict[str, Any]]) -> list[str]:
    """One line each; the layers' caches, which are all alike, on one."""
    lines: list[str] = []
    groups = [
        [one for one in tensors if one["name"].startswith(kinds)]
        for kinds in (("key_cache.", "value_cache."), ("key_cache_scale.", "value_cache_scale."))
    ]
    for one in tensors:
        name = one["name"]
        alike = next((group for group in groups if one in group and len(group) > 1), None)
        if alike is not None and len({(item["dtype"], tuple(item["dims"])) for item in alike}) == 1:
            if one is not alike[0]:
                continue
            name = f"{alike[0]['name']} … {alike[-1]['name']} ({len(alike)})"
        lines.append(f"{name}: {one['dtype']}{one['dims']}")
    return [f"{title if not index else '':<14}{line}" for index, line in enumerate(lines)]


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in ordered) or "none"
