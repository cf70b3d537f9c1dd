"""What is measured of the rows that go into a linear layer, or into a KV cache."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Accumulator", "InputStatistics"]

Float = NDArray[np.floating[Any]]

# Rows whose products are summed in float32; blocks are added up in float64.
_BLOCK_ROWS = 512


@dataclass(frozen=True)
class InputStatistics:
    """Statistics of a matrix X [rows, width], whose rows are tokens.

    channel_min, channel_max: float32 [width]. mean_abs, mean_square: float64 [width], means of |x| and x².
    second_moment: float64 [width, width], X^T X (a sum, not a mean; GPTQ's Hessian is twice that), or None.
    drift: [width, width] in the type of the rows (it is a small correction, and as large a matrix), X^T (Y -
    X), where Y are the float network's rows there, or None.
    sample: float32 [n, width], some of the rows, or None.
    """

    rows: int
    channel_min: Float
    channel_max: Float
    mean_abs: NDArray[np.float64]
    mean_square: NDArray[np.float64]
    second_moment: NDArray[np.float64] | None = None
    drift: Float | None = None
    sample: Float | None = None

    @property
    def max_abs(self) -> Float:
        """Largest |x| of each channel, float32 [width]."""
        result: Float = np.maximum(np.abs(self.channel_min), np.abs(self.channel_max))
        return result

    @property
    def minimum(self) -> float:
        """Of the whole tensor."""
        return float(self.channel_min.min())

    @property
    def maximum(self) -> float:
        """Of the whole tensor."""
        return float(self.channel_max.max())

    def without(self, *names: str) -> InputStatistics:
        """The same, with some of the optional fields forgotten."""
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in names}
        return InputStatistics(**kept)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything as arrays, for a file; None is left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: np.asarray(value) for name, value in values.items() if value is not None}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> InputStatistics:
        """The inverse of arrays(). TypeError, ValueError or KeyError: they are not from there."""
        values: dict[str, Any] = dict(arrays)
        return cls(rows=int(values.pop("rows")), **values)


class Accumulator:
    """Collects InputStatistics from blocks of rows."""

    def __init__(
        self,
        width: int,
        second_moment: bool = False,
        sample: NDArray[np.integer] | None = None,
        drift: bool = False,
    ) -> None:
        """sample: numbers of the rows to keep, ascending, counted over all blocks."""
        self._rows = 0
        self._min = np.full(width, np.inf, np.float32)
        self._max = np.full(width, -np.inf, np.float32)
        self._sum_abs = np.zeros(width)
        self._sum_square = np.zeros(width)
        self._moment = np.zeros((width, width)) if second_moment else None
        self._drift = np.zeros((width, width), np.float32) if drift else None
        self._wanted = sample
        self._sample: list[Float] = []

    def add(self, rows: Float, original: Float | None = None) -> None:
        """rows: float32 or float64 [n, width]. original: those of the float network, for the drift."""
        for start in range(0, len(rows), _BLOCK_ROWS):
            block = rows[start : start + _BLOCK_ROWS]
            self._add_block(block)
            if self._drift is not None and original is not None:
                self._drift += block.T @ (original[start : start + _BLOCK_ROWS] - block)

    def _add_block(self, rows: Float) -> None:
        if self._rows == 0 and rows.dtype != self._min.dtype:
            self._min, self._max = self._min.astype(rows.dtype), self._max.astype(rows.dtype)
            self._drift = None if self._drift is None else self._drift.astype(rows.dtype)
        np.minimum(self._min, rows.min(axis=0), out=self._min)
        np.maximum(self._max, rows.max(axis=0), out=self._max)
        self._sum_abs += np.abs(rows).sum(axis=0, dtype=np.float64)
        if self._moment is None:
            self._sum_square += np.einsum("ij,ij->j", rows, rows)
        else:
            self._moment += rows.T @ rows
        if self._wanted is not None:
            first, last = np.searchsorted(self._wanted, (self._rows, self._rows + len(rows)))
            self._sample.append(rows[self._wanted[first:last] - self._rows])
        self._rows += len(rows)

    def finish(self) -> InputStatistics:
        """The statistics of all rows so far; the accumulator is not used afterwards."""
        squares = self._sum_square if self._moment is None else np.diagonal(self._moment)
        return InputStatistics(
            rows=self._rows,
            channel_min=self._min,
            channel_max=self._max,
            mean_abs=self._sum_abs / self._rows,
            mean_square=squares / self._rows,
            second_moment=self._moment,
            drift=self._drift,
            sample=np.concatenate(self._sample) if self._wanted is not None else None,
        )
