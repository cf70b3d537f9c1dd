"""What a calibration made of a network's linear layers, read back one layer at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.calibrate import Calibration, VisitedLayers
from mindir_llm.export.pipeline.policies import weight_scheme
from mindir_llm.export.quantize.activation import ActivationGrid
from mindir_llm.export.quantize.config import LayerPolicy
from mindir_llm.export.quantize.kv import kv_channel_scales
from mindir_llm.export.quantize.scheme import QuantizedWeight
from mindir_llm.models.config import LlamaConfig

__all__ = ["LayerError", "QuantizedNetwork"]

_EMBEDDING = "model.embed_tokens"


@dataclass(frozen=True)
class LayerError:
    """How wrong a quantized layer is. output: root of its squared output error on calibration inputs over
    that of its output; nearest: the same had it been rounded to nearest; weight: relative error of its
    weights (as they are stored, scaled by what inputs are divided by)."""

    linear: str
    output: float
    nearest: float
    weight: float


class QuantizedNetwork:
    """Integers and changed float tensors by name; what is in a calibration's cache is read when asked for."""

    def __init__(
        self,
        network: LlamaConfig,
        policies: Mapping[str, LayerPolicy],
        calibration: Calibration,
        dtype: str,
    ) -> None:
        """dtype: of stored scales, as the calibration's visitor was told."""
        if calibration.visited is None:
            raise ValueError("a calibration without a cache keeps no integers")
        self._network = network
        self._policies = dict(policies)
        self._calibration = calibration
        self._visited: VisitedLayers = calibration.visited
        self._dtype = dtype
        self.names = tuple(self._policies)
        # All of the checkpoint's tensors are taken, under their own names.
        self.parameters: tuple[str, ...] = ()
        self.tensors: tuple[str, ...] = ()
        layers = range(network.num_hidden_layers + 1)
        self._layer_of = {name: layer for layer in layers for name in self._visited.names(layer)}

    def linear(self, name: str) -> tuple[QuantizedWeight, ActivationGrid | None]:
        """The integers of a quantized layer, and the grid of its inputs if that is a static one."""
        scheme = weight_scheme(self._policies[name], self._dtype)
        zero = None if scheme.symmetric else self._array(f"zero/{name}")
        weight = QuantizedWeight(scheme, self._array(f"integers/{name}"), self._array(f"scale/{name}"), zero)
        grid = None
        if f"inputs/{name}" in self._layer_of:
            scale, offset = self._array(f"inputs/{name}")
            grid = ActivationGrid(float(scale), int(offset))
        return weight, grid

    def input_order(self, name: str) -> NDArray[np.int32]:
        """Our own groups are of inputs that follow each other."""
        raise KeyError(name)

    def bias(self, name: str) -> NDArray[np.float32]:
        """Biases are plain tensors of the checkpoint."""
        raise KeyError(name)

    def row_divisors(self, module: str) -> NDArray[np.float64] | None:
        """What outputs of a norm or linear layer are divided by, [out]: to be done to its norm weight, its
        bias, and its float weight's rows, but not to a quantized weight, which linear() gives as it is."""
        return self._optional(f"divided/{module}")

    def column_factors(self, module: str) -> NDArray[np.float64] | None:
        """What a float weight's columns are to be multiplied with, [in]."""
        return self._optional(f"multiplied/{module}")

    def errors(self) -> list[LayerError]:
        """Of every quantized layer, in the network's order."""
        return [
            LayerError(name, *(float(value) for value in self._array(f"errors/{name}")))
            for name in self._policies
        ]

    def kv_scales(self) -> dict[str, NDArray[np.float32]]:
        """Parameter name -> static scales of an int8 cache, float32 [kv_heads, head_dim]."""
        shape = (self._network.num_key_value_heads, self._network.head_dim)
        scales = {}
        for layer in range(self._network.num_hidden_layers):
            name = f"model.layers.{layer}.self_attn"
            keys = self._calibration.keys[layer].max_abs
            values = self._calibration.values[layer].max_abs
            divisor = self.row_divisors(f"{name}.v_proj")
            if divisor is not None:
                values = values / divisor
            scales[f"{name}.key_scale"] = kv_channel_scales(keys.reshape(shape))
            scales[f"{name}.value_scale"] = kv_channel_scales(values.reshape(shape))
        return scales

    def _optional(self, name: str) -> NDArray[Any] | None:
        return self._array(name) if name in self._layer_of else None

    def _array(self, name: str) -> NDArray[Any]:
        return self._visited.array(self._layer_of[name], name)
