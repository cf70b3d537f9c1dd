"""int8 caches of keys and values: a fixed scale for each channel, or one for each token and head.

Symmetric: value = integer * scale. Keys have a few channels of large values, which suits scales per channel;
values have none (Liu et al., "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", 2024,
arXiv:2402.02750). Scales of channels are calibrated and part of the model; those of tokens are computed as
tokens come and stored beside the cache.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.activation import dequantize_tokens, quantize_symmetric, quantize_tokens
from mindir_llm.export.quantize.scheme import Floats, check_matrix

__all__ = [
    "dequantize_channels",
    "dequantize_tokens",
    "kv_channel_maxima",
    "kv_channel_scales",
    "quantize_channels",
    "quantize_tokens",
]


def kv_channel_maxima(cache: Floats) -> Floats:
    """Largest magnitudes [heads, head_dim] of keys or values [..., heads, head_dim]; those of several batches
    combine by np.maximum. ValueError: a value is not finite."""
    largest: Floats = np.max(np.abs(cache), axis=tuple(range(cache.ndim - 2)), initial=0)
    check_matrix(largest, "largest")
    return largest


def kv_channel_scales(largest: Floats, margin: float = 1.0) -> NDArray[np.float32]:
    """Scales [heads, head_dim], max / 127, of calibrated maxima; 1 for channels of zeros.

    margin: maxima are multiplied with it; above 1 it leaves room for what calibration did not see.
    ValueError: a maximum is negative or not finite, or margin is not positive.
    """
    check_matrix(largest, "largest")
    if np.any(largest < 0):
        raise ValueError("largest is negative")
    if not margin > 0:
        raise ValueError(f"margin: {margin}, must be positive")
    with np.errstate(over="ignore", under="ignore"):
        scale = (largest * margin / 127).astype(np.float32)
    if not np.all(np.isfinite(scale)):
        raise ValueError("a scale does not fit float32")
    scale[scale == 0] = 1
    return scale


def quantize_channels(cache: Floats, scale: Floats) -> NDArray[np.int8]:
    """int8 of [..., heads, head_dim] by scale [heads, head_dim]; larger values saturate at ±127."""
    return quantize_symmetric(cache, scale)


def dequantize_channels(integers: NDArray[np.int8], scale: Floats) -> Floats:
    """int8 [..., heads, head_dim] times scale [heads, head_dim], in the type of the scale."""
    values: Floats = integers * scale
    return values
