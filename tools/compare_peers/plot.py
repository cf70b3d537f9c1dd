"""The comparison as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mindir_llm.tools.bench.plot import new_figure, save
from mindir_llm.tools.compare_peers.report import RATES

__all__ = ["plot_comparison"]

_OURS, _THEIRS = "#c2410c", "#94a3b8"


def plot_comparison(report: dict[str, Any], path: Path) -> None:
    """One panel per speed, one bar per engine, with the range over the rounds. BenchError: no matplotlib."""
    engines = [engine for engine in report["engines"] if engine["rounds"]]
    engines.sort(key=lambda one: (-one["bits"], one["ours"]))
    figure, panels = new_figure(path, len(RATES), width=12.0, height=0.8 + 0.38 * max(len(engines), 3))
    lengths = report["lengths"]
    titles = (
        f"prefill of {lengths['prompt']}, tokens/s",
        f"decode at {lengths['short_context']}, tokens/s",
        f"decode at {lengths['long_context']}, tokens/s",
    )
    labels = [f"{engine['engine']} {engine['variant']}" for engine in engines]
    for number, (axes, name, title) in enumerate(zip(panels, RATES, titles, strict=True)):
        samples = [engine["summary"][name] for engine in engines]
        middle = [one["median"] for one in samples]
        spread = [
            [one["median"] - one["low"] for one in samples],
            [one["high"] - one["median"] for one in samples],
        ]
        colors = [_OURS if engine["ours"] else _THEIRS for engine in engines]
        places = list(range(len(engines)))
        axes.barh(places, middle, xerr=spread, color=colors, ecolor="#334155", capsize=2)
        axes.set_yticks(places, labels if number == 0 else [""] * len(labels))
        axes.set_title(title, fontsize=10)
        axes.grid(axis="x", alpha=0.3)
    machine = report["machine"]
    figure.suptitle(f"{report['shape']}, {machine['cpu']}, {machine['threads']} threads", fontsize=10)
    save(figure, path)
