"""The report as a picture. matplotlib is optional: the extra `bench` brings it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mindir_llm.tools.bench.errors import BenchError

__all__ = ["FORMATS", "new_figure", "plot_report"]

FORMATS = (".png", ".svg")


def new_figure(path: Path, columns: int, width: float = 10.0, height: float = 4.0) -> tuple[Any, Any]:
    """An empty figure and its axes for a file of that name; BenchError without matplotlib or for another
    kind of file."""
    if path.suffix.lower() not in FORMATS:
        raise BenchError(f"--plot: {path}: expected a name that ends in {' or '.join(FORMATS)}")
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError:
        raise BenchError("--plot needs matplotlib: pip install 'mindir-llm[bench]'") from None
    # The same numbers give the same file.
    matplotlib.rcParams["svg.hashsalt"] = "mindir-llm"
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(1, columns, squeeze=False)[0]


def save(figure: Any, path: Path) -> None:
    """Write a figure of new_figure; the file holds no date."""
    figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def plot_report(report: dict[str, Any], path: Path) -> None:
    """Prefill and decode speed over length, with the range of the repetitions; errors as new_figure."""
    figure, (left, right) = new_figure(path, 2)
    bundle, machine = report["bundle"], report["machine"]
    for axes, rows, key, title in (
        (left, report["prefill"], "tokens", "prefill"),
        (right, report["decode"], "context", "decode"),
    ):
        x = [one[key] for one in rows]
        samples = [one["tokens_per_second"] for one in rows]
        middle = [one["median"] for one in samples]
        below = [one["median"] - one["low"] for one in samples]
        above = [one["high"] - one["median"] for one in samples]
        axes.errorbar(x, middle, [below, above], marker="o", capsize=3)
        axes.set(
            title=title,
            xlabel={"tokens": "prompt tokens", "context": "tokens before"}[key],
            ylabel="tokens/s",
            ylim=(0, None),
        )
        axes.grid(alpha=0.3)
    if machine["read_bandwidth"] is not None:
        bandwidth = machine["read_bandwidth"]["median"]
        x = [one["context"] for one in report["decode"]]
        limit = [bandwidth / one["bytes_per_token"] for one in report["decode"]]
        right.plot(x, limit, linestyle="--", color="gray", label="read bandwidth")
        right.legend()
        right.set_ylim(0, None)
    name = Path(bundle["path"]).name
    figure.suptitle(f"{name} ({bundle['scheme']}), {machine['cpu']}, {machine['threads']} threads")
    save(figure, path)
