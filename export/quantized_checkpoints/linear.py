"""One linear layer in integers, whatever layout it was stored in."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["QuantizedLinear"]


@dataclass(frozen=True)
class QuantizedLinear:
    """weight[o, i] = (integers[o, i] - zero[o, g]) * scale[o, g], where g = group_of[i].

    integers: uint8 [out, in], 0 … 2^bits - 1. scale: float32 [out, groups] (float16 values, exactly). zero:
    uint8 [out, groups]. group_of: int32 [in]. bias: float32 [out] or None. bits: 4 or 8. act_scale, act_zero:
    where inputs are int8 with calibrated limits, input = (int8 - act_zero) * act_scale; otherwise None and 0.
    act_dynamic: inputs are int8 with one scale per token.
    """

    integers: NDArray[np.uint8]
    scale: NDArray[np.float32]
    zero: NDArray[np.uint8]
    group_of: NDArray[np.int32]
    bits: int
    bias: NDArray[np.float32] | None = None
    act_scale: float | None = None
    act_zero: int = 0
    act_dynamic: bool = False

    @property
    def is_symmetric(self) -> bool:
        """Whether every zero point is the middle, so that signed integers need none."""
        return bool(np.all(self.zero == 1 << (self.bits - 1)))

    @property
    def group_size(self) -> int | None:
        """Inputs that share a scale, where groups are of successive inputs and of one size but for a shorter
        last one; 0 where all inputs share one; None where groups are scattered (desc_act)."""
        inputs, groups = len(self.group_of), self.scale.shape[1]
        if groups == 1:
            return 0
        size = int(np.searchsorted(self.group_of, 1))
        regular = np.arange(inputs) // max(size, 1)
        return size if size and np.array_equal(self.group_of, regular) else None

    def signed(self) -> tuple[NDArray[np.int8], NDArray[np.int8]]:
        """integers and zero less 2^(bits-1), int8: the values of symmetric layouts, whose zeros are 0."""
        middle = 1 << (self.bits - 1)
        # Modulo 256 the difference of bytes is right also where it is negative.
        return (self.integers - np.uint8(middle)).view(np.int8), (self.zero - np.uint8(middle)).view(np.int8)

    def dequantize(self) -> NDArray[np.float32]:
        """The weight, float32 [out, in]."""
        result = self.integers.astype(np.float32)
        result -= self.zero.astype(np.float32)[:, self.group_of]
        result *= self.scale[:, self.group_of]
        return result

    def in_group_order(self) -> tuple[NDArray[np.int64], QuantizedLinear]:
        """A permutation of the inputs, and the layer whose inputs are permuted so that groups are of
        successive ones: layer(x) = ordered(x[..., permutation])."""
        permutation = np.argsort(self.group_of, kind="stable")
        ordered = replace(
            self,
            integers=np.ascontiguousarray(self.integers[:, permutation]),
            group_of=self.group_of[permutation],
        )
        return permutation, ordered

    def with_outputs(self, order: NDArray[np.integer]) -> QuantizedLinear:
        """The layer that puts out order[i] at i."""
        return replace(
            self,
            integers=np.ascontiguousarray(self.integers[order]),
            scale=np.ascontiguousarray(self.scale[order]),
            zero=np.ascontiguousarray(self.zero[order]),
            bias=None if self.bias is None else self.bias[order],
        )


def unpack(words: NDArray[np.int32], bits: int, axis: int) -> NDArray[Any]:
    """Integers that lie in 32-bit words, the first in the lowest bits: int32 [.., n, ..] -> uint8
    [.., n*32/bits, ..] along the axis (0 or 1) of a matrix."""
    per_word = 32 // bits
    shifts = np.arange(0, 32, bits, dtype=np.uint32)
    mask = np.uint32((1 << bits) - 1)
    rows, columns = words.shape
    result = np.empty((rows, per_word, columns) if axis == 0 else (rows, columns, per_word), np.uint8)
    for index, shift in enumerate(shifts):  # one position at a time keeps the 32-bit copies small
        values = (words.view(np.uint32) >> shift) & mask
        if axis == 0:
            result[:, index] = values
        else:
            result[:, :, index] = values
    return result.reshape((rows * per_word, columns) if axis == 0 else (rows, columns * per_word))
