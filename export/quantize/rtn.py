"""Symmetric round-to-nearest int8 with one scale per output channel."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["dequantize_rows", "quantize_rows"]

_LARGEST = 127


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
    if not np.all(np.isfinite(largest)):
        raise ValueError(f"row {int(np.argmin(np.isfinite(largest[:, 0])))} holds a value that is not finite")
    with np.errstate(over="ignore"):
        scale = (largest.astype(np.float32) / np.float32(_LARGEST)).astype(scale_dtype)
    if not np.all(np.isfinite(scale)):
        raise ValueError(
            f"row {int(np.argmin(np.isfinite(scale[:, 0])))}: scale does not fit {np.dtype(scale_dtype)}"
        )
    # A scale that underflows to zero stands for weights too small to store; they become zeros like a row of
    # zeros.
    dead = scale == 0
    scale[dead] = 1
    scaled = weight / scale.astype(np.float32)
    np.rint(scaled, out=scaled)
    np.clip(scaled, -_LARGEST, _LARGEST, out=scaled)
    return scaled.astype(np.int8), scale


def dequantize_rows(quantized: NDArray[np.int8], scale: NDArray[np.floating]) -> NDArray[np.float32]:
    """int8 [rows, columns] times scale [rows, 1], in float32."""
    return quantized.astype(np.float32) * scale.astype(np.float32)
