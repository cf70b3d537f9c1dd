"""Round-to-nearest: every weight becomes the nearest integer of its group's grid, no calibration needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindir_llm.export.quantize.scheme import (
    Floats,
    QuantizedWeight,
    WeightScheme,
    check_matrix,
    fit_grid,
    round_to_grid,
)

__all__ = ["dequantize_groups", "dequantize_rows", "quantize_groups", "quantize_rows", "round_to_nearest"]


def round_to_nearest(
    weight: Floats, scheme: WeightScheme, clip: Floats | float | None = None
) -> QuantizedWeight:
    """Quantize a matrix [out, in], float32 or float64, by any scheme.

    clip: factors in (0, 1] that the ranges are multiplied with, [out, groups] or one for all; weights beyond
    their range saturate. ValueError: the weight is not a matrix of that kind, a value is not finite, a scale
    overflows scheme.scale_dtype, or clip is out of range.
    """
    check_matrix(weight, "weight")
    scale, zero = fit_grid(weight, scheme, clip)
    return round_to_grid(weight, scheme, scale, zero)


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
    return _quantize(weight, WeightScheme(8, scale_dtype=np.dtype(scale_dtype).name))


def quantize_groups(
    weight: NDArray[np.float32], group_size: int, scale_dtype: DTypeLike
) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    """Quantize each group of columns of each row of a matrix to -8 … 7.

    weight: float32 [rows, columns], rows being output channels. group_size: columns that share a scale; the
    last group may be shorter; 0 means all columns. Returns int8 [rows, columns], not packed yet, and scales
    [rows, groups] of scale_dtype (float16 or float32), such that integer * scale approximates weight. Scales
    are made for 7, so that positive and negative weights lose alike; -8 occurs only where a scale was rounded
    down by much. Rounding of scales, groups of zeros and ValueError are as for quantize_rows.
    """
    return _quantize(weight, WeightScheme(4, group_size, scale_dtype=np.dtype(scale_dtype).name))


def _quantize(
    weight: NDArray[np.float32], scheme: WeightScheme
) -> tuple[NDArray[np.int8], NDArray[np.floating]]:
    # fit_grid finds what is not finite, without another pass over a large block.
    scale, zero = fit_grid(weight, scheme)
    return round_to_grid(weight, scheme, scale, zero).integers, scale


def dequantize_rows(quantized: NDArray[np.int8], scale: NDArray[np.floating]) -> NDArray[np.float32]:
    """int8 [rows, columns] times scale [rows, 1], in float32."""
    return dequantize_groups(quantized, 0, scale)


def dequantize_groups(
    quantized: NDArray[np.int8], group_size: int, scale: NDArray[np.floating]
) -> NDArray[np.float32]:
    """int8 [rows, columns] times its group's scale out of [rows, groups], in float32."""
    return (
        QuantizedWeight(WeightScheme(4, group_size), quantized, scale)
        .dequantize()
        .astype(np.float32, copy=False)
    )
