"""What the rounds say: medians, ratios within a round, tables."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mindir_llm.tools.compare_peers.errors import CompareError
from mindir_llm.tools.compare_peers.runner import Entry, Lengths

__all__ = ["build_report", "markdown", "table", "write_between_markers"]

FORMAT = "mindir-llm-comparison"
FORMAT_VERSION = 1

BEGIN, END = "<!-- compare_peers: begin -->", "<!-- compare_peers: end -->"

# In the order of the table. Rates are the better the higher they are, costs the lower.
RATES = ("prefill_tokens_per_second", "decode_tokens_per_second", "decode_long_tokens_per_second")
COSTS = ("load_seconds", "peak_rss")


def build_report(
    entries: Sequence[Entry],
    *,
    shape: str,
    lengths: Lengths,
    machine: dict[str, Any],
    load_averages: Sequence[float],
    now: datetime | None = None,
) -> dict[str, Any]:
    """The whole comparison as a JSON object. Seconds, bytes, tokens per second."""
    ours = {
        entry.variant.bits: _metrics(entry, lengths) for entry in entries if entry.peer.ours and entry.rounds
    }
    engines = []
    for entry in entries:
        metrics = _metrics(entry, lengths)
        engine: dict[str, Any] = {
            "engine": entry.peer.name,
            "ours": entry.peer.ours,
            "variant": entry.variant.name,
            "bits": entry.variant.bits,
            "versions": entry.facts.get("versions", {}),
            "package_bytes": entry.facts.get("package_bytes"),
            "file_bytes": entry.file_bytes,
            "notes": list(entry.peer.notes),
            "reason": entry.reason,
            "rounds": entry.rounds,
            "summary": {name: _sample(values) for name, values in metrics.items()},
            "ours_relative": None,
        }
        own = ours.get(entry.variant.bits)
        if own and metrics and not entry.peer.ours:
            engine["ours_relative"] = {name: _ratio(own[name], metrics[name]) for name in metrics}
        engines.append(engine)
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "time": (now or datetime.now(timezone.utc)).strftime("%Y-%m-%d %H:%M UTC"),
        "shape": shape,
        "lengths": asdict(lengths),
        "machine": machine,
        "load_averages": list(load_averages),
        "engines": engines,
    }


def _metrics(entry: Entry, lengths: Lengths) -> dict[str, list[float | None]]:
    """Each number once a round; nothing for an entry without rounds."""
    if not entry.rounds:
        return {}
    steps = lengths.decode_steps
    return {
        "prefill_tokens_per_second": [lengths.prompt / one["prefill_seconds"] for one in entry.rounds],
        "decode_tokens_per_second": [steps / one["decode_short_seconds"] for one in entry.rounds],
        "decode_long_tokens_per_second": [steps / one["decode_long_seconds"] for one in entry.rounds],
        "load_seconds": [one["load_seconds"] for one in entry.rounds],
        "peak_rss": [one["peak_rss"] for one in entry.rounds],
    }


def _sample(values: Sequence[float | None]) -> dict[str, float] | None:
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    return {"median": statistics.median(known), "low": min(known), "high": max(known)}


def _ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> dict[str, float] | None:
    """Median of ours / theirs, round by round."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None and b is not None]
    return _sample([a / b for a, b in pairs]) if len(pairs) == len(ours) else None


Cell = Callable[[dict[str, Any]], str]


def _median(name: str, text: Callable[[float], str]) -> Cell:
    def cell(engine: dict[str, Any]) -> str:
        sample = engine["summary"].get(name)
        return "–" if sample is None else text(sample["median"])

    return cell


def _megabytes(name: str) -> Cell:
    return lambda engine: "–" if engine[name] is None else _mb(engine[name])


def _mb(nbytes: float) -> str:
    return f"{nbytes / 1e6:.1f}" if nbytes < 9.95e6 else f"{nbytes / 1e6:.0f}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def _columns(report: dict[str, Any]) -> list[tuple[str, Cell]]:
    lengths = report["lengths"]
    return [
        ("engine", lambda engine: engine["engine"]),
        ("weights", lambda engine: engine["variant"]),
        (f"prefill {lengths['prompt']}, tokens/s", _median("prefill_tokens_per_second", _number)),
        (f"decode at {lengths['short_context']}", _median("decode_tokens_per_second", _number)),
        (f"decode at {lengths['long_context']}", _median("decode_long_tokens_per_second", _number)),
        ("load, s", _median("load_seconds", lambda value: f"{value:.2f}")),
        ("peak RSS, MB", _median("peak_rss", _mb)),
        ("model, MB", _megabytes("file_bytes")),
        ("package, MB", _megabytes("package_bytes")),
    ]


def table(report: dict[str, Any]) -> list[list[str]]:
    """Header and one row per measured engine: ours first, then by bits."""
    columns = _columns(report)
    rows = [[title for title, _ in columns]]
    measured = [engine for engine in report["engines"] if engine["rounds"]]
    for engine in sorted(measured, key=lambda one: (one["bits"], not one["ours"])):
        rows.append([cell(engine) for _, cell in columns])
    return rows


def ratio_table(report: dict[str, Any]) -> list[list[str]]:
    """Header and one row per other engine: ours over theirs, with weights of as many bits."""
    lengths = report["lengths"]
    header = ["ours against", "weights", f"prefill {lengths['prompt']}"]
    header += [f"decode at {lengths[name]}" for name in ("short_context", "long_context")]
    rows = [[*header, "load time", "peak RSS"]]
    for engine in sorted(report["engines"], key=lambda one: one["bits"]):
        relative = engine["ours_relative"]
        if relative is not None:
            cells = [_times(relative[name]) for name in (*RATES, *COSTS)]
            rows.append([engine["engine"], engine["variant"], *cells])
    return rows


def _times(sample: dict[str, float] | None) -> str:
    return "–" if sample is None else f"{sample['median']:.2f} ×"


def not_measured(report: dict[str, Any]) -> list[str]:
    """One line per engine that has no numbers, with the reason."""
    return [
        f"{engine['engine']} {engine['variant']} was not measured: {engine['reason'] or 'no rounds'}"
        for engine in report["engines"]
        if not engine["rounds"]
    ]


def markdown(report: dict[str, Any], plot: str | None = None) -> str:
    """The report as a section of a document. plot: link to the picture."""
    machine, lengths = report["machine"], report["lengths"]
    rounds = max((len(engine["rounds"]) for engine in report["engines"]), default=0)
    lines = [
        f"Shape {report['shape']}, random weights; {machine['cpu']}, {machine['threads']} threads; "
        f"{report['time']}. Medians of {rounds} rounds, in which the engines took turns, each in a fresh "
        f"process (one-minute load average before a round: {_range(report['load_averages'])}). Decoding: "
        f"{lengths['decode_steps']} greedy tokens.",
        "",
        *_markdown_table(table(report)),
        "",
    ]
    ratios = ratio_table(report)
    if len(ratios) > 1:
        lines += [
            "Ours divided by theirs within a round, median over the rounds; speeds: higher is better, load "
            "time and memory: lower is better.",
            "",
            *_markdown_table(ratios),
            "",
        ]
    if plot is not None:
        lines += [f"![Speed of the engines]({plot})", ""]
    lines += [f"- {line}" for line in not_measured(report)]
    seen = set()
    for engine in report["engines"]:
        if engine["engine"] in seen or not engine["versions"] or not engine["rounds"]:
            continue
        seen.add(engine["engine"])
        versions = ", ".join(f"{name} {number}" for name, number in engine["versions"].items())
        lines.append(f"- {engine['engine']}: {versions}" + "".join(f"; {note}" for note in engine["notes"]))
    return "\n".join(lines).rstrip() + "\n"


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.1f} – {max(values):.1f}" if values else "–"


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    rule = ["---", "---", *["---:"] * (len(rows[0]) - 2)]
    return [f"| {' | '.join(_escaped(cell) for cell in row)} |" for row in [rows[0], rule, *rows[1:]]]


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


def text(report: dict[str, Any]) -> str:
    """The report for a terminal."""
    blocks = [_aligned(table(report)), *([_aligned(ratio_table(report))] if _has_ratios(report) else [])]
    blocks += ["\n".join(not_measured(report))] if not_measured(report) else []
    return "\n\n".join(blocks)


def _has_ratios(report: dict[str, Any]) -> bool:
    return any(engine["ours_relative"] for engine in report["engines"])


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def write_between_markers(path: Path, section: str) -> None:
    """Replace what lies between the markers of a document; without a document, make one. CompareError: it has
    no markers."""
    block = f"{BEGIN}\n{section}{END}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# Performance\n\n## Beside other engines\n\n{block}\n", encoding="utf-8")
        return
    before = path.read_text(encoding="utf-8")
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(before):
        raise CompareError(f"{path}: has no lines {BEGIN} and {END} to write between")
    path.write_text(pattern.sub(lambda _: block, before, count=1), encoding="utf-8")
