"""Hidden states of all calibration sequences, in memory or in a file without a name."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["RowStore"]

Float = NDArray[np.floating[Any]]


class RowStore:
    """A matrix [rows, width] whose rows belong to sequences, read and written a sequence at a time.

    A matrix of more than memory_limit bytes lies in a temporary file that vanishes with the process. It is
    read and written, not mapped: mapped pages count as memory of the process, and how much memory a
    calibration needs must not depend on what the kernel leaves mapped.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        width: int,
        dtype: DTypeLike = np.float32,
        memory_limit: int = 1 << 30,
        folder: Path | None = None,
    ) -> None:
        """lengths: rows of each sequence. folder: of the file; default the system's temporary folder.
        OSError: the folder cannot be written, later also: the disk is full."""
        self._starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self._dtype = np.dtype(dtype)
        self._width = width
        self._row_bytes = width * self._dtype.itemsize
        self.nbytes = int(self._starts[-1]) * self._row_bytes
        self._memory: Float | None = None
        self._file: BinaryIO | None = None
        if self.nbytes <= memory_limit:
            self._memory = np.empty((int(self._starts[-1]), width), self._dtype)
        else:
            self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def in_memory(self) -> bool:
        return self._memory is not None

    def read(self, sequence: int) -> Float:
        """Rows of a sequence, [n, width]; the caller may change them, but must write them back."""
        first, last = int(self._starts[sequence]), int(self._starts[sequence + 1])
        if self._memory is not None:
            return self._memory[first:last].copy()
        rows = np.empty((last - first, self._width), self._dtype)
        _read_exactly(self._seek(first), rows)
        return rows

    def write(self, sequence: int, rows: Float) -> None:
        """Set the rows of a sequence, [n, width]."""
        first, last = int(self._starts[sequence]), int(self._starts[sequence + 1])
        if rows.shape != (last - first, self._width):
            raise ValueError(
                f"sequence {sequence} has {last - first} rows of {self._width}, not {rows.shape}"
            )
        if self._memory is not None:
            self._memory[first:last] = rows
            return
        file = self._seek(first)
        view = np.ascontiguousarray(rows, self._dtype).data.cast("B")
        while view:
            view = view[file.write(view) :]

    def blocks(self) -> Iterator[memoryview]:
        """The bytes of all rows in order."""
        for sequence in range(len(self)):
            yield self.read(sequence).data.cast("B")

    def fill(self, file: BinaryIO) -> None:
        """Set all rows from a file that holds what blocks() gave. EOFError: it ends early."""
        for sequence in range(len(self)):
            rows = np.empty(
                (int(self._starts[sequence + 1] - self._starts[sequence]), self._width), self._dtype
            )
            _read_exactly(file, rows)
            self.write(sequence, rows)

    def _seek(self, row: int) -> BinaryIO:
        assert self._file is not None
        self._file.seek(row * self._row_bytes)
        return self._file

    def close(self) -> None:
        """Give memory or disk back."""
        self._memory = None
        if self._file is not None:
            self._file.close()
            self._file = None


def _read_exactly(file: BinaryIO, rows: Float) -> None:
    view = rows.data.cast("B")
    while view:
        count = file.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise EOFError("the file of hidden states ends early")
        view = view[count:]
