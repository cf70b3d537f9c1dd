"""MindSpore Golden Stick's layout: safetensors beside a quantization_description.json.

The description names the type of every tensor: FLOAT, W8A16, W8A8_DYNAMIC, W8A8, … Of the int8 types,
NAME.weight is int8 [out, in], NAME.weight_scale float [out], NAME.weight_offset int32 [out]: weight =
(integer - offset) * scale. W8A8 adds NAME.input_scale and NAME.input_offset of the calibrated inputs; what
else there is (deq_scale, quant_bias) follows from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.checkpoint import read_json
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantized_checkpoints.linear import QuantizedLinear
from mindir_llm.export.quantized_checkpoints.tensors import LinearTensors

__all__ = ["DESCRIPTION", "read_description", "read_golden_stick"]

DESCRIPTION = "quantization_description.json"

_FLOAT = "FLOAT"
_STATIC = "W8A8"
_DYNAMIC = "W8A8_DYNAMIC"
_INT8 = ("W8A16", _DYNAMIC, _STATIC)
_WEIGHT = ".weight"
# int8 is stored with its sign; the common description counts from 0.
_MIDDLE = 128


def read_description(folder: Path) -> dict[str, str]:
    """Type of every quantized linear layer by module name; ExportError names a tensor whose type is not
    supported."""
    path = folder / DESCRIPTION
    types = {}
    for name, kind in read_json(path).items():
        if not name.endswith(_WEIGHT) or kind == _FLOAT:
            continue
        if kind not in _INT8:
            raise ExportError(
                f"{path}: {name}: type {kind!r} is not supported (supported: {', '.join((_FLOAT, *_INT8))})"
            )
        types[name.removesuffix(_WEIGHT)] = kind
    return types


def read_golden_stick(tensors: LinearTensors, types: Mapping[str, str]) -> QuantizedLinear:
    """The layer that these tensors hold; ExportError names the tensor that does not fit."""
    signed = tensors.matrix("weight", np.int8)
    outputs, inputs = signed.shape
    if tensors.has("smooth_scale"):
        # Releases differ in whether inputs are multiplied or divided by it, and nothing in the files tells
        # which of them wrote it.
        raise ExportError(
            f"{tensors.name}.smooth_scale: smoothed layers of Golden Stick are not supported;"
            " quantize the float checkpoint with --method smoothquant"
        )
    scale = tensors.floats("weight_scale", (outputs,))
    offset = np.zeros(outputs, np.int32)
    if tensors.has("weight_offset"):
        offset = tensors.integers("weight_offset", (outputs,))
    zero = offset + _MIDDLE
    if zero.min() < 0 or zero.max() > 255:
        raise ExportError(f"{tensors.name}.weight_offset: values outside of -128 … 127")
    act_scale, act_zero = None, 0
    if types[tensors.name] == _STATIC:
        act_scale = float(_one(tensors, "input_scale"))
        act_zero = int(_one(tensors, "input_offset")) if tensors.has("input_offset") else 0
    return QuantizedLinear(
        integers=signed.view(np.uint8) ^ np.uint8(_MIDDLE),
        scale=scale[:, None],
        zero=zero.astype(np.uint8)[:, None],
        group_of=np.zeros(inputs, np.int32),
        bits=8,
        bias=tensors.bias(outputs),
        act_scale=act_scale,
        act_zero=act_zero,
        act_dynamic=types[tensors.name] == _DYNAMIC,
    )


def _one(tensors: LinearTensors, part: str) -> float:
    """The number of a tensor whose elements are all the same: one per tensor, written once or per channel."""
    values: NDArray[np.generic] = tensors.numbers(part)
    if not values.size or np.any(values != values.flat[0]):
        raise ExportError(f"{tensors.name}.{part}: differs between channels, which is not supported")
    return float(values.flat[0])
