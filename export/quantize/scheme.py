"""What a quantized weight is: integers, scales and zero points, and how they are fitted to a matrix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = [
    "Floats",
    "QuantizedWeight",
    "WeightScheme",
    "check_matrix",
    "fit_grid",
    "join_rows",
    "round_to_grid",
    "row_blocks",
    "spread",
]

Floats: TypeAlias = NDArray[np.floating]
"""float32 or float64; results are computed in the type of what goes in."""

_BLOCK_ROWS = 256
_SCALE_DTYPES = ("float16", "float32", "float64")


@dataclass(frozen=True)
class WeightScheme:
    """How a matrix [out, in] is stored: value = (integer - zero) * scale.

    bits: 4 or 8. group_size: inputs that share a scale of an output channel, 0 for all of them; the last
    group of a channel is shorter where its size does not divide the inputs. symmetric: no zero points; the
    range is the largest magnitude. Otherwise it is from the least to the largest weight, widened to hold 0,
    which is then an integer of its own. scale_dtype: float16, float32 or float64 (for references).
    """

    bits: int
    group_size: int = 0
    symmetric: bool = True
    scale_dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.bits not in (4, 8):
            raise ValueError(f"bits: {self.bits}, must be 4 or 8")
        if self.group_size < 0:
            raise ValueError(f"group_size: {self.group_size}, must not be negative")
        if self.scale_dtype not in _SCALE_DTYPES:
            raise ValueError(f"scale_dtype: {self.scale_dtype}, must be one of {', '.join(_SCALE_DTYPES)}")

    @property
    def low(self) -> int:
        """The least integer: -8; of 8 bits -128, symmetric -127."""
        return -127 if self.symmetric and self.bits == 8 else -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def columns(self, in_features: int) -> int:
        """Inputs in a group (a short last one excepted), given how many there are."""
        return self.group_size or in_features

    def groups(self, in_features: int) -> int:
        return -(-in_features // self.columns(in_features))


@dataclass(frozen=True)
class QuantizedWeight:
    """A matrix in integers. integers: int8 [out, in] from scheme.low to scheme.high, not packed. scale: [out,
    groups] of scheme.scale_dtype, positive. zero: int8 [out, groups] within the integers' range, or None
    where the scheme is symmetric. (Ascend's antiquant_offset, which is added, is -zero.)"""

    scheme: WeightScheme
    integers: NDArray[np.int8]
    scale: Floats
    zero: NDArray[np.int8] | None = None

    def __post_init__(self) -> None:
        rows, columns = self.integers.shape
        expected = (rows, self.scheme.groups(columns))
        if self.scale.shape != expected:
            raise ValueError(f"scale has shape {self.scale.shape}, must be {expected}")
        if (self.zero is None) != self.scheme.symmetric:
            raise ValueError("zero points belong to asymmetric weights, and only to them")
        if self.zero is not None and self.zero.shape != expected:
            raise ValueError(f"zero has shape {self.zero.shape}, must be {expected}")

    def dequantize(self, dtype: DTypeLike = np.float32) -> Floats:
        """(integers - zero) * scale, [out, in], computed in dtype (float32 or float64)."""
        columns = self.integers.shape[1]
        size = self.scheme.columns(columns)
        values: Floats = self.integers.astype(dtype)
        if self.zero is not None:
            values -= spread(self.zero.astype(dtype), size, columns)
        values *= spread(self.scale.astype(dtype), size, columns)
        return values

    def with_rows_of(self, other: QuantizedWeight, rows: NDArray[np.bool_]) -> QuantizedWeight:
        """This with the rows that are marked taken from another of the same scheme and shape."""
        if other.scheme != self.scheme or other.integers.shape != self.integers.shape:
            raise ValueError("rows can be taken from a weight of the same scheme and shape only")
        chosen = rows[:, None]
        zero = None
        if self.zero is not None and other.zero is not None:
            zero = np.where(chosen, other.zero, self.zero)
        return QuantizedWeight(
            self.scheme,
            np.where(chosen, other.integers, self.integers),
            np.where(chosen, other.scale, self.scale),
            zero,
        )


def join_rows(parts: Sequence[QuantizedWeight]) -> QuantizedWeight:
    """One weight of the rows of several, at least one, which are of the same scheme."""
    zeros = [part.zero for part in parts if part.zero is not None]
    return QuantizedWeight(
        parts[0].scheme,
        np.concatenate([part.integers for part in parts]),
        np.concatenate([part.scale for part in parts]),
        np.concatenate(zeros) if zeros else None,
    )


def fit_grid(
    weight: Floats, scheme: WeightScheme, clip: Floats | float | None = None
) -> tuple[Floats, NDArray[np.int8] | None]:
    """Scales and zero points for the range of each group of each row.

    weight: [out, in]. clip: factors in (0, 1] that ranges are multiplied with, [out, groups] or one for all.
    Returns scale [out, groups] of scheme.scale_dtype and zero int8 [out, groups] (None: symmetric).

    Scales are rounded to their stored type here, so that integers can fit the scale that the device
    multiplies with. A group of zeros, or of values too small for scale_dtype, gets scale 1. ValueError: a
    weight is not finite, a scale overflows its type, or clip is not in range.
    """
    columns = weight.shape[1]
    starts = np.arange(0, columns, scheme.columns(columns))
    if scheme.symmetric:
        largest = np.maximum.reduceat(np.abs(weight), starts, axis=1)
        _check_rows(largest)
        return _stored(_clipped(largest, clip) / weight.dtype.type(scheme.high), scheme), None
    least = np.minimum(np.minimum.reduceat(weight, starts, axis=1), 0)
    largest = np.maximum(np.maximum.reduceat(weight, starts, axis=1), 0)
    _check_rows(np.maximum(largest, -least))
    least, largest = _clipped(least, clip), _clipped(largest, clip)
    # Halves, since the width of a range may overflow where its ends do not.
    width = (largest / 2 - least / 2) / weight.dtype.type(scheme.high - scheme.low) * 2
    scale = _stored(width, scheme)
    zero = np.rint(scheme.low - least / scale.astype(weight.dtype))
    return scale, np.clip(zero, scheme.low, scheme.high).astype(np.int8)


def round_to_grid(
    weight: Floats, scheme: WeightScheme, scale: Floats, zero: NDArray[np.int8] | None
) -> QuantizedWeight:
    """The nearest integers of each weight [out, in], given its group's scale and zero [out, groups].

    Halves are rounded to even. Divides in the type of the weights.
    """
    columns = weight.shape[1]
    size = scheme.columns(columns)
    scaled = weight / spread(scale.astype(weight.dtype), size, columns)
    np.rint(scaled, out=scaled)
    if zero is not None:
        scaled += spread(zero.astype(weight.dtype), size, columns)
    np.clip(scaled, scheme.low, scheme.high, out=scaled)
    return QuantizedWeight(scheme, scaled.astype(np.int8), scale, zero)


def spread(values: Floats, size: int, columns: int) -> Floats:
    """[rows, groups] -> [rows, columns], each value repeated `size` times; [rows, 1] stays, to broadcast."""
    if values.shape[1] == 1:
        return values
    return np.repeat(values, size, axis=1)[:, :columns]


def row_blocks(rows: int) -> Iterator[slice]:
    """All of so many rows, a few at a time: those of a large layer take some MB, so that what is computed of
    them, step by step, comes from the processor's cache instead of memory (two to four times as fast)."""
    return (slice(start, min(start + _BLOCK_ROWS, rows)) for start in range(0, rows, _BLOCK_ROWS))


def check_matrix(values: Floats, name: str, shape: Sequence[int | None] = (None, None)) -> None:
    """ValueError, by name, unless these are finite float32 or float64 of this shape (None: any size)."""
    if values.dtype not in (np.float32, np.float64):
        raise ValueError(f"{name} is {values.dtype}, must be float32 or float64")
    fits = values.ndim == len(shape) and all(
        wanted is None or size == wanted for size, wanted in zip(values.shape, shape, strict=True)
    )
    if not fits:
        expected = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {values.shape}, must be ({expected})")
    finite = np.isfinite(values)
    if not np.all(finite):
        place = ", ".join(str(i) for i in np.unravel_index(int(np.argmin(finite)), values.shape))
        raise ValueError(f"{name} holds a value that is not finite, at [{place}]")


def _check_rows(ranges: Floats) -> None:
    finite = np.all(np.isfinite(ranges), axis=1)
    if not np.all(finite):
        raise ValueError(f"row {int(np.argmin(finite))} holds a value that is not finite")


def _clipped(ranges: Floats, clip: Floats | float | None) -> Floats:
    if clip is None:
        return ranges
    factors = np.asarray(clip, ranges.dtype)
    if factors.ndim and factors.shape != ranges.shape:
        raise ValueError(f"clip has shape {factors.shape}, must be {ranges.shape}")
    if not np.all((factors > 0) & (factors <= 1)):
        raise ValueError("clip must be above 0 and at most 1")
    return ranges * factors


def _stored(width: Floats, scheme: WeightScheme) -> Floats:
    """Steps in the type that scales are stored in; 1 where they would be 0."""
    with np.errstate(over="ignore", under="ignore"):
        scale = width.astype(scheme.scale_dtype)
    finite = np.all(np.isfinite(scale), axis=1)
    if not np.all(finite):
        raise ValueError(f"row {int(np.argmin(finite))}: scale does not fit {scheme.scale_dtype}")
    # A scale that underflows to zero stands for weights too small to store; they become zeros like a group of
    # zeros.
    scale[scale == 0] = 1
    return scale
