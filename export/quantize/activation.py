"""int8 activations: one grid for a tensor, fixed in calibration, or one for each token, made as it comes.

Arithmetic is that of the operators in graphs: clip(round(x / scale) + zero), halves rounded to even, and a
token's scale is max|x| / 127 (as DynamicQuantExt has it).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindir_llm.export.quantize.scheme import Floats

__all__ = [
    "ActivationGrid",
    "ValueHistogram",
    "dequantize_tokens",
    "quantize_symmetric",
    "quantize_tokens",
    "static_grid",
]

_LARGEST = 127


@dataclass(frozen=True)
class ActivationGrid:
    """Grid of a whole tensor: value = (integer - zero) * scale. scale: positive, exact in float32. zero: from
    -128 to 127, 0 if symmetric."""

    scale: float
    zero: int = 0

    def quantize(self, values: Floats) -> NDArray[np.int8]:
        """int8 of any shape, in the arithmetic of the values' type; what is out of range saturates."""
        scaled = values / values.dtype.type(self.scale)
        np.rint(scaled, out=scaled)
        scaled += self.zero
        return np.clip(scaled, -128, 127, out=scaled).astype(np.int8)

    def dequantize(self, integers: NDArray[np.int8], dtype: DTypeLike = np.float32) -> Floats:
        values: Floats = integers.astype(dtype)
        values -= self.zero
        values *= values.dtype.type(self.scale)
        return values


def static_grid(low: float, high: float, symmetric: bool = True) -> ActivationGrid:
    """The grid for values within low … high (observed in calibration; 0 is always included).

    symmetric: zero is 0 and the larger end becomes ±127. Otherwise -128 … 127 cover the range. A range that
    is 0, or too small for a float32 scale, gets scale 1. ValueError: an end is not finite, or low is above
    high.
    """
    if not (np.isfinite(low) and np.isfinite(high)) or low > high:
        raise ValueError(f"activations from {low} to {high} are no range")
    low, high = min(low, 0.0), max(high, 0.0)
    with np.errstate(over="ignore", under="ignore"):
        step = np.float32(max(high, -low) / _LARGEST if symmetric else high / 255 - low / 255)
    if not np.isfinite(step):
        raise ValueError(f"activations from {low} to {high}: scale does not fit float32")
    scale = float(step) or 1.0
    zero = 0 if symmetric else int(np.clip(np.rint(-128 - low / scale), -128, 127))
    return ActivationGrid(scale, zero)


def quantize_tokens(values: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantize each vector along the last axis by its own scale.

    values: [..., in]. Returns int8 of that shape and scales [...] in the type of the values, max|x| / 127. A
    vector of zeros (or one whose scale is too small for its type) gets zeros and scale 0. ValueError: a value
    is not finite.
    """
    scale = np.max(np.abs(values), axis=-1, initial=0) / values.dtype.type(_LARGEST)
    if not np.all(np.isfinite(scale)):
        raise ValueError("activations hold a value that is not finite")
    return quantize_symmetric(values, scale[..., None]), scale


def dequantize_tokens(integers: NDArray[np.int8], scale: Floats) -> Floats:
    """int8 [..., in] times scale [...], in the type of the scale."""
    values: Floats = integers * scale[..., None]
    return values


def quantize_symmetric(values: Floats, scale: Floats) -> NDArray[np.int8]:
    """clip(round(values / scale), -127, 127); zeros where the scale is 0. scale: broadcasts to the values."""
    scaled = values / np.where(scale == 0, np.inf, scale).astype(values.dtype)
    np.rint(scaled, out=scaled)
    return np.clip(scaled, -_LARGEST, _LARGEST, out=scaled).astype(np.int8)


class ValueHistogram:
    """The distribution of a tensor's values, streamed through it, to choose a range for a static grid.

    Bins are of equal width over a range that doubles as larger values come; memory is fixed.
    """

    def __init__(self, bins: int = 1 << 16) -> None:
        """bins: a multiple of 4; a quantile is found to within one bin of the widest range seen."""
        if bins < 4 or bins % 4:
            raise ValueError(f"bins: {bins}, must be a positive multiple of 4")
        self.low = 0.0
        self.high = 0.0
        self._counts = np.zeros(bins, np.int64)
        self._limit = 0.0

    def add(self, values: Floats) -> None:
        """Count values of any shape. ValueError: one is not finite."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("activations hold a value that is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._widen(max(high, -low))
        bins = len(self._counts)
        if self._limit == 0:
            self._counts[bins // 2] += values.size
            return
        places = ((values.reshape(-1) / self._limit + 1) * (bins // 2)).astype(np.int64)
        self._counts += np.bincount(np.clip(places, 0, bins - 1), minlength=bins)

    def _widen(self, largest: float) -> None:
        if largest <= self._limit:
            return
        if self._limit == 0:
            # What came so far was zeros; their bin stays the middle one.
            self._limit = largest
            return
        quarter = len(self._counts) // 4
        while self._limit < largest:
            self._limit *= 2
            merged = self._counts.reshape(-1, 2).sum(axis=1)
            self._counts[:] = 0
            self._counts[quarter : 3 * quarter] = merged

    def range(self, percent: float = 100.0, symmetric: bool = True) -> tuple[float, float]:
        """Low and high that hold at least this part of the values; 100 is min-max, 0 and what was counted
        included. symmetric: by magnitude, low = -high; otherwise as much is left out at either end."""
        if not 0 < percent <= 100:
            raise ValueError(f"percent: {percent}, must be above 0 and at most 100")
        if percent == 100:
            most = max(self.high, -self.low)
            return (-most, most) if symmetric else (self.low, self.high)
        total, bins = int(self._counts.sum()), len(self._counts)
        width = 2 * self._limit / bins
        half = bins // 2
        if symmetric:
            magnitudes = self._counts[half:] + self._counts[:half][::-1]
            needed = int(np.searchsorted(np.cumsum(magnitudes), total * percent / 100)) + 1
            most = min(needed * width, max(self.high, -self.low))
            return -most, most
        tail = total * (100 - percent) / 200
        below = int(np.searchsorted(np.cumsum(self._counts), tail, side="right"))
        above = int(np.searchsorted(np.cumsum(self._counts[::-1]), tail, side="right"))
        low, high = (below - half) * width, (half - above) * width
        return min(max(low, self.low), 0.0), max(min(high, self.high), 0.0)
