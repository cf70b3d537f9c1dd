"""Errors over layers as SVG: one small picture per kind of linear layer, all of one scale."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Series", "panel", "percent", "scale_top"]

_WIDTH, _HEIGHT = 300, 160
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 24
_STEPS = 4


@dataclass(frozen=True)
class Series:
    """name: for tooltips. style: CSS class, 'method' or 'nearest'. values: error by layer; layers that stay
    float are not in it."""

    name: str
    style: str
    values: Mapping[int, float]


def percent(value: float) -> str:
    return f"{100 * value:#.4g} %" if math.isfinite(value) else "∞"


def scale_top(values: Iterable[float]) -> float:
    """A round number that no finite value exceeds, for the upper end of the scale."""
    largest = max((value for value in values if math.isfinite(value)), default=0.0)
    return _step(largest) * max(1, math.ceil(largest / _step(largest))) if largest > 0 else 0.01


def panel(title: str, series: Sequence[Series], layers: int, top: float) -> str:
    """Series over layers 0 … layers - 1, from 0 to top. Values beyond it are drawn at its height."""
    lines = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}: error over layers">'
    ]
    step = _step(top)
    for index in range(round(top / step) + 1):
        y = _y(index * step, top)
        lines.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = f"{100 * index * step:.6g} %"
        lines.append(f'<text class="tick" x="{_LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{label}</text>')
    for layer in sorted({0, (layers - 1) // 2, layers - 1}) if layers > 1 else ():
        x = _x(layer, layers)
        lines.append(f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{layer}</text>')
    for one in series:
        for run in _runs(one.values):
            points = " ".join(f"{_x(i, layers):.1f},{_y(one.values[i], top):.1f}" for i in run)
            if len(run) > 1:
                lines.append(f'<polyline class="{one.style}" points="{points}"/>')
        for layer, value in sorted(one.values.items()):
            where = f"layer {layer}, " if layers > 1 else ""
            lines.append(
                f'<circle class="{one.style}" cx="{_x(layer, layers):.1f}" cy="{_y(value, top):.1f}" r="3">'
                f"<title>{escape(where + one.name)}: {percent(value)}</title></circle>"
            )
    return "\n".join([*lines, "</svg>"])


def _step(top: float) -> float:
    """1, 2 or 5 times a power of ten, so that at most _STEPS of them are needed."""
    power = 10.0 ** math.floor(math.log10(top / _STEPS))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power * _STEPS >= top * (1 - 1e-9))


def _x(layer: int, layers: int) -> float:
    width = _WIDTH - _LEFT - _RIGHT
    return _LEFT + (width / 2 if layers < 2 else 8 + (width - 16) * layer / (layers - 1))


def _y(value: float, top: float) -> float:
    return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (1 - min(value / top, 1))


def _runs(values: Mapping[int, float]) -> list[list[int]]:
    """Layers without gaps between them."""
    runs: list[list[int]] = []
    for layer in sorted(values):
        if runs and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return runs
