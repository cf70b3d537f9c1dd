"""Writers of AutoAWQ's and GPTQ's layouts, in the slowest way: one integer at a time, with Python's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def word(integers: list[int], bits: int) -> int:
    """Integers in a 32-bit word, the first in the lowest bits, as a signed number."""
    value = 0
    for position, integer in enumerate(integers):
        assert 0 <= integer < 1 << bits
        value |= integer << (position * bits)
    return value - (1 << 32) if value >= 1 << 31 else value


def awq_words(matrix: NDArray[Any]) -> NDArray[np.int32]:
    """[rows, out] -> [rows, out/8]."""
    rows, columns = matrix.shape
    result = np.zeros((rows, columns // 8), np.int32)
    for row in range(rows):
        for column in range(columns // 8):
            eight = [int(matrix[row, 8 * column + offset]) for offset in AWQ_ORDER]
            result[row, column] = word(eight, 4)
    return result


def row_words(matrix: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """[rows, columns] -> [rows, columns*bits/32]; a last word is filled up with zeros."""
    per_word = 32 // bits
    rows, columns = matrix.shape
    result = np.zeros((rows, -(-columns // per_word)), np.int32)
    for row in range(rows):
        for start in range(0, columns, per_word):
            values = [int(value) for value in matrix[row, start : start + per_word]]
            result[row, start // per_word] = word(values, bits)
    return result


def column_words(matrix: NDArray[Any], bits: int) -> NDArray[np.int32]:
    """[rows, columns] -> [rows*bits/32, columns]."""
    return np.ascontiguousarray(row_words(matrix.T, bits).T)


def awq_tensors(
    name: str, integers: NDArray[Any], zero: NDArray[Any], scale: NDArray[np.float16]
) -> dict[str, NDArray[Any]]:
    """integers [out, in], zero and scale [out, groups]."""
    return {
        f"{name}.qweight": awq_words(integers.T),
        f"{name}.qzeros": awq_words(zero.T),
        f"{name}.scales": np.ascontiguousarray(scale.T),
    }


def gptq_tensors(
    name: str,
    integers: NDArray[Any],
    zero: NDArray[Any],
    scale: NDArray[np.float16],
    group_of: NDArray[np.int32],
    bits: int,
    less_one: bool = True,
) -> dict[str, NDArray[Any]]:
    """integers [out, in], zero and scale [out, groups], group_of [in]."""
    stored = (zero.astype(int) - int(less_one)) % (1 << bits)
    return {
        f"{name}.qweight": column_words(integers.T, bits),
        f"{name}.qzeros": row_words(stored.T, bits),
        f"{name}.scales": np.ascontiguousarray(scale.T),
        f"{name}.g_idx": group_of.astype(np.int32),
    }
