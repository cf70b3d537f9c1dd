"""AutoAWQ's 'gemm' layout.

NAME.qweight int32 [in, out/8] and NAME.qzeros int32 [groups, out/8] hold eight output channels to a word, in
the order below; NAME.scales float16 [groups, out]. weight = (integer - zero) * scale.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantized_checkpoints.linear import QuantizedLinear, unpack
from mindir_llm.export.quantized_checkpoints.settings import QuantizationSettings
from mindir_llm.export.quantized_checkpoints.tensors import LinearTensors

__all__ = ["read_awq"]

_BITS = 4
# Nibble n of a word is the channel _ORDER[n] of its eight.
_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def read_awq(tensors: LinearTensors, settings: QuantizationSettings) -> QuantizedLinear:
    """The layer that these tensors hold; ExportError names the tensor whose shape does not fit."""
    words = tensors.words("qweight")
    inputs, outputs = words.shape[0], words.shape[1] * 8
    groups = settings.groups(inputs)
    return QuantizedLinear(
        integers=np.ascontiguousarray(_in_order(unpack(words, _BITS, axis=1)).T),
        scale=np.ascontiguousarray(tensors.floats("scales", (groups, outputs)).T),
        zero=np.ascontiguousarray(
            _in_order(unpack(tensors.words("qzeros", (groups, outputs // 8)), _BITS, axis=1)).T
        ),
        group_of=settings.successive(inputs),
        bits=_BITS,
        bias=tensors.bias(outputs),
    )


def _in_order(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rows = channels.reshape(len(channels), -1, 8)
    result = np.empty_like(rows)
    result[:, :, _ORDER] = rows
    return result.reshape(channels.shape)
