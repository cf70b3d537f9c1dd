"""Two 4-bit integers in a byte, in the layout that both targets share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["pack_int4"]

_BIAS = 8


def pack_int4(quantized: NDArray[np.int8], biased: bool) -> NDArray[np.uint8]:
    """Transpose and pack: int8 [N, K] within -8 … 7 -> bytes [K, N/2] (a view that is not contiguous).

    Byte [k, j] holds output channel 2j in its low nibble and channel 2j+1 in its high nibble. biased: nibbles
    are the integer plus 8 (0 … 15), for graphs that unpack them by arithmetic; otherwise two's complement, as
    MindIR's qint4x2. ValueError: N is odd.
    """
    if len(quantized) % 2:
        raise ValueError(f"{len(quantized)} output channels cannot be packed in pairs")
    # An offset of 8 modulo 16 is a flip of the sign bit.
    nibbles = (quantized.view(np.uint8) & 15) ^ np.uint8(_BIAS if biased else 0)
    pairs: NDArray[np.uint8] = nibbles[0::2] | (nibbles[1::2] << 4)
    return pairs.T
