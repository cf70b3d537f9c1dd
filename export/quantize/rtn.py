"""Symmetric round-to-nearest: int8 with one scale per output channel, int4 with one per group of inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["dequantize_groups", "dequantize_rows", "quantize_groups", "quantize_rows"]

_LARGEST_INT8 = 127
# Scales are made for 7, so that positive and negative weights lose alike; -8 occurs only where a scale was
# rounded down by much.
_LARGEST_INT4 = 7
_SMALLEST_INT4 = -8


def quantize_rows(
    weight: NDArray[np.float32], scale_dtype: DTypeLike
) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Quantize each row of a matrix to -127 … 127.

    weight: float32 [rows, columns], rows being output channels. Returns int8 [rows, columns] and scales
    [rows, 1] of scale_dtype (float16 or float32), such that int8 * scale approximates weight.

    The scale is rounded to its stored type before the weights are divided by it, so that the integers fit the
    scale which the device will multiply with. A row of zeros gets scale 1 and zeros. ValueError: a weight is
    not finite, or a row's scale overflows scale_dtype.
    """
    largest = np.max(np.abs(weight), axis=1, keepdims=True, initial=0.0)
    scale = _scales(largest, _LARGEST_INT8, scale_dtype)
    return _integers(weight, scale.astype(np.float32), -_LARGEST_INT8, _LARGEST_INT8), scale


def quantize_groups(
    weight: NDArray[np.float32], group_size: int, scale_dtype: DTypeLike
) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Quantize each group of columns of each row of a matrix to -8 … 7.

    weight: float32 [rows, columns], rows being output channels. group_size: columns that share a scale; the
    last group may be shorter; 0 means all columns. Returns int8 [rows, columns], not packed yet, and scales
    [rows, groups] of scale_dtype (float16 or float32), such that integer * scale approximates weight.
    Rounding of scales, groups of zeros and ValueError are as for quantize_rows.
    """
    columns = weight.shape[1]
    size = group_size or columns
    largest = np.maximum.reduceat(np.abs(weight), np.arange(0, columns, size), axis=1)
    scale = _scales(largest, _LARGEST_INT4, scale_dtype)
    return _integers(weight, _spread(scale, size, columns), _SMALLEST_INT4, _LARGEST_INT4), scale


def dequantize_rows(quantized: NDArray[np.int8], scale: NDArray[np.floating]) -> NDArray[np.float32]:
    """int8 [rows, columns] times scale [rows, 1], in float32."""
    return quantized.astype(np.float32) * scale.astype(np.float32)


def dequantize_groups(
    quantized: NDArray[np.int8], group_size: int, scale: NDArray[np.floating]
) -> NDArray[np.float32]:
    """int8 [rows, columns] times its group's scale out of [rows, groups], in float32."""
    columns = quantized.shape[1]
    return quantized.astype(np.float32) * _spread(scale, group_size or columns, columns)


def _scales(
    largest: NDArray[np.float32], largest_integer: int, scale_dtype: DTypeLike
) -> NDArray[np.floating]:
    """A scale for the largest magnitude of each group, [rows, groups] both; 1 where it would be 0."""
    finite = np.all(np.isfinite(largest), axis=1)
    if not np.all(finite):
        raise ValueError(f"row {int(np.argmin(finite))} holds a value that is not finite")
    with np.errstate(over="ignore"):
        scale = (largest.astype(np.float32) / np.float32(largest_integer)).astype(scale_dtype)
    finite = np.all(np.isfinite(scale), axis=1)
    if not np.all(finite):
        raise ValueError(f"row {int(np.argmin(finite))}: scale does not fit {np.dtype(scale_dtype)}")
    # A scale that underflows to zero stands for weights too small to store; they become zeros like a group of
    # zeros.
    scale[scale == 0] = 1
    return scale


def _integers(
    weight: NDArray[np.float32], scale: NDArray[np.float32], low: int, high: int
) -> NDArray[np.int8]:
    scaled = weight / scale
    np.rint(scaled, out=scaled)
    np.clip(scaled, low, high, out=scaled)
    return scaled.astype(np.int8)


def _spread(scale: NDArray[np.floating], size: int, columns: int) -> NDArray[np.float32]:
    """[rows, groups] -> float32, one for each of `columns`; [rows, 1] where one serves them all."""
    if scale.shape[1] == 1:
        return scale.astype(np.float32)
    return np.repeat(scale.astype(np.float32), size, axis=1)[:, :columns]
