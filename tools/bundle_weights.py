"""The weights of a bundle as float64, read from its own files: what an exact machine would compute with.

For bundles whose integers do not follow from the checkpoint by rounding to nearest. Graphs are read with
MindSpore's protobuf classes; layouts are those that models.graph describes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BundleWeights"]

Float = NDArray[np.float64]

# TensorProto.data_type -> how bytes are read; qint4x2 (18) as the bytes that it is.
_DTYPES = {1: "<f4", 2: "<u1", 3: "<i1", 6: "<i4", 10: "<f2", 18: "<u1"}
_QINT4X2 = 18
_WEIGHT = ".weight"


class BundleWeights:
    """Tensors by the checkpoint's names, with what was folded into them; read when asked for."""

    def __init__(self, folder: Path, graph: str, quantization: Mapping[str, Any]) -> None:
        """quantization: the manifest's. ImportError: MindSpore is missing."""
        from mindspore.train import mind_ir_pb2

        model = mind_ir_pb2.ModelProto()
        model.ParseFromString((folder / graph).read_bytes())
        self._folder = folder
        self._tensors = {tensor.name: tensor for tensor in model.graph.parameter}
        self._common = quantization
        self._layers = quantization.get("layers", {})

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def entry(self, module: str) -> Mapping[str, Any]:
        """What the manifest says of a linear layer; {} where it is float."""
        return self._layers.get(module, self._common) or {}

    def read(self, name: str) -> Float:
        """A weight, norm or bias of the checkpoint's name."""
        module = name.rpartition(".")[0]
        if name.endswith(".bias") and f"{module}.input_scale" in self:
            return self._float_bias(module)
        if f"{name}_scale" not in self:
            return self._raw(name).astype(np.float64)
        integers, by_input = self._integers(module)
        scale = self._spread(module, self._raw(f"{name}_scale"), by_input, integers.shape)
        if f"{name}_zero" in self:
            zero = self._raw(f"{name}_zero")
            # The NPU's operator adds what the cpu graphs subtract.
            zero = -zero.astype(np.float64) if zero.dtype == np.float16 else zero
            integers = integers - self._spread(module, zero, by_input, integers.shape)
        if f"{module}.input_scale" in self:
            scale = scale * float(self._raw(f"{module}.input_scale")[0])
        weight = integers * scale
        if f"{module}.input_order" in self:
            ordered, weight = weight, np.empty_like(weight)
            weight[:, self._raw(f"{module}.input_order")] = ordered
        return weight

    def input_grid(self, module: str) -> tuple[float, float] | None:
        """Factor and zero of a static grid of a layer's inputs: integer = x * factor + zero, rounded."""
        if f"{module}.input_scale" not in self:
            return None
        return tuple(float(self._raw(f"{module}.{part}")[0]) for part in ("input_scale", "input_zero"))  # type: ignore[return-value]

    def _integers(self, module: str) -> tuple[Float, bool]:
        """[out, in], and whether scales are stored by input group."""
        tensor, raw = self._tensors[module + _WEIGHT], self._raw(module + _WEIGHT)
        scale = self._raw(f"{module}{_WEIGHT}_scale")
        if raw.dtype == np.uint8:
            values = np.stack([raw & 15, raw >> 4], -1).reshape(len(raw), -1).astype(np.int16)
            values = (values ^ 8) - 8 if tensor.data_type == _QINT4X2 else values - 8
            return values.T.astype(np.float64), True
        by_input = scale.ndim == 2 and scale.shape[1] == raw.shape[1] > 1
        return (raw.T if by_input else raw).astype(np.float64), by_input

    def _spread(self, module: str, values: NDArray[Any], by_input: bool, shape: tuple[int, ...]) -> Float:
        """Scales or zero points for every weight [out, in]."""
        wide = values.astype(np.float64)
        if values.ndim == 1 or not by_input:
            return np.broadcast_to(wide.reshape(-1, 1), shape)
        size = self.entry(module).get("group_size") or shape[1]
        return np.repeat(wide, size, axis=0)[: shape[1]].T

    def _float_bias(self, module: str) -> Float:
        integers, _ = self._integers(module)
        grid = self.input_grid(module)
        assert grid is not None
        sums = integers.sum(axis=1)
        steps = self._raw(f"{module}.bias").astype(np.float64) + grid[1] * sums
        return steps * self._raw(f"{module}{_WEIGHT}_scale").astype(np.float64).reshape(-1)

    def _raw(self, name: str) -> NDArray[Any]:
        tensor = self._tensors[name]
        place, dtype = tensor.external_data, np.dtype(_DTYPES[tensor.data_type])
        count = place.length // dtype.itemsize
        data = np.fromfile(self._folder / place.location, dtype, count, offset=place.offset)
        return data.reshape(tuple(tensor.dims))
