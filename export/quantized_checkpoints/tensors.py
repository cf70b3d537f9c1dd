"""The tensors of one quantized linear layer, read from a checkpoint with their shapes checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError

__all__ = ["LinearTensors"]


class LinearTensors:
    """Tensors NAME.qweight, NAME.scales, … by their last part."""

    def __init__(self, checkpoint: Checkpoint, name: str) -> None:
        self._checkpoint = checkpoint
        self.name = name

    def has(self, part: str) -> bool:
        return f"{self.name}.{part}" in self._checkpoint.tensors

    def matrix(self, part: str, dtype: DTypeLike) -> NDArray[Any]:
        """A matrix of int32 or int8; ExportError: missing, another type, or not a matrix."""
        values = self._checkpoint.integers(f"{self.name}.{part}", dtype)
        if values.ndim != 2 or not values.size:
            raise ExportError(f"{self._where(part)} has shape {list(values.shape)}, expected a matrix")
        return values

    def words(self, part: str, shape: tuple[int, int] | None = None) -> NDArray[np.int32]:
        """A matrix of 32-bit words; ExportError as above, or not of this shape."""
        words = self.matrix(part, np.int32)
        if shape is not None:
            self._check(part, words.shape, shape)
        return words

    def integers(self, part: str, shape: tuple[int, ...]) -> NDArray[np.int32]:
        values = self._checkpoint.integers(f"{self.name}.{part}", np.int32)
        self._check(part, values.shape, shape)
        return values

    def floats(self, part: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """A float tensor in float32; ExportError as above, or it holds values that are not finite."""
        name = f"{self.name}.{part}"
        if name not in self._checkpoint.tensors:
            raise ExportError(f"{self._checkpoint.folder}: missing tensors: {name}")
        self._check(part, self._checkpoint.tensors[name].shape, shape)
        self._checkpoint.check_readable(name, shape)
        return np.concatenate(list(self._checkpoint.blocks(name, np.float32)))

    def numbers(self, part: str) -> NDArray[Any]:
        """A tensor of any shape, int32 or float; ExportError: missing or of another type."""
        name = f"{self.name}.{part}"
        entry = self._checkpoint.tensors.get(name)
        if entry is None or entry.dtype == "I32":
            return self._checkpoint.integers(name, np.int32)
        return self.floats(part, entry.shape)

    def bias(self, outputs: int) -> NDArray[np.float32] | None:
        return self.floats("bias", (outputs,)) if self.has("bias") else None

    def _check(self, part: str, found: tuple[int, ...], expected: tuple[int, ...]) -> None:
        if found != expected:
            raise ExportError(
                f"{self._where(part)} has shape {list(found)}, expected {list(expected)}"
                " (by the shape of the weight and the group size)"
            )

    def _where(self, part: str) -> str:
        name = f"{self.name}.{part}"
        return f"{self._checkpoint.tensors[name].file}: tensor {name}"
