"""Checkpoints that are quantized already: their own integers, in a form that graphs have."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantize.activation import ActivationGrid
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scheme import QuantizedWeight, WeightScheme
from mindir_llm.export.quantized_checkpoints import QuantizedCheckpoint, QuantizedLinear, open_quantized
from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["PrequantizedNetwork", "open_prequantized"]

# Groups that graphs have, largest first. One of more inputs is as several with the same scale.
_GROUPS = (128, 64, 32)
# Integers that graphs have no form for even in another order of inputs are rounded once more, to these, which
# are 16 times as fine as 4 bits.
_ROUNDED = WeightQuantization(8, 32)


class PrequantizedNetwork:
    """A LayerSource. Where scales are scattered over inputs (desc_act), layers take them by groups: down_proj
    in the order in which gate_proj and up_proj then put them out, at no cost; others gather theirs.

    network: its config.json; method: 'awq', 'gptq' or 'golden-stick'; forms: what its layers are in graphs;
    rounded: names of those whose integers could not be kept; warnings: what is not kept exactly, which has
    been warned of."""

    def __init__(self, source: QuantizedCheckpoint, dtype: str) -> None:
        """dtype: of stored scales. ExportError: a layer that graphs have no form for."""
        self.network: LlamaConfig = source.config()
        self.checkpoint: Checkpoint = source.checkpoint
        self.method = source.method
        self._source = source
        self._dtype = dtype
        shapes = self.network.linear_shapes()
        known = [name for name in source.names if name in shapes]
        if len(known) < len(source.names):
            other = next(name for name in source.names if name not in shapes)
            raise ExportError(
                f"{source.checkpoint.folder}: {other}: quantized, but config.json has no place for it"
            )
        self.names = tuple(known)
        self.forms: dict[str, WeightQuantization] = {}
        self.rounded: list[str] = []
        biased = []
        inexact = []
        # The order of inputs of layers that gather them, and of outputs of layers before those that do not.
        self._input_orders: dict[str, NDArray[np.int32]] = {}
        self._output_orders: dict[str, NDArray[np.int32]] = {}
        for name in self.names:
            linear = source.linear(name)
            if linear.group_size is None:
                linear = self._reorder(name, linear)
            if linear.integers.shape != shapes[name]:
                raise ExportError(
                    f"{source.checkpoint.folder}: {name}: has shape {list(linear.integers.shape)},"
                    f" config.json asks for {list(shapes[name])}"
                )
            self.forms[name] = self._form(name, linear)
            if linear.bias is not None and self._has_bias(name):
                biased.append(name)
            elif linear.bias is not None and np.any(linear.bias):
                raise ExportError(
                    f"{source.checkpoint.folder}: {name}.bias: config.json says that there is none"
                )
            if not linear.act_scale and np.any(linear.scale != linear.scale.astype(dtype)):
                inexact.append(name)
        self.warnings: list[str] = []
        if self.rounded:
            self.warnings.append(
                f"{len(self.rounded)} layers (such as {self.rounded[0]}) have groups of other sizes than"
                f" multiples of {_GROUPS[-1]}, which graphs do not have: they are rounded once more, to int8"
            )
        if inexact:
            self.warnings.append(
                f"scales of {len(inexact)} layers (such as {inexact[0]}) are rounded to {dtype}"
            )
        for message in self.warnings:
            warnings.warn(message, stacklevel=2)
        self.parameters = [f"{name}.weight" for name in self.names] + [f"{name}.bias" for name in biased]
        own = tuple(f"{name}." for name in self.names)
        self.tensors = [name for name in self.checkpoint.tensors if name.startswith(own)]

    def linear(self, name: str) -> tuple[QuantizedWeight, ActivationGrid | None]:
        linear, form = self._source.linear(name), self.forms[name]
        if name in self._input_orders:
            _, linear = linear.in_group_order()
        if (order := self._output_orders.get(name)) is not None:
            linear = linear.with_outputs(order)
        scale_dtype = self._dtype if form.activations == "float" else "float32"
        scheme = WeightScheme(form.bits, form.group_size, form.symmetric, scale_dtype)
        if name in self.rounded:
            return round_to_nearest(linear.dequantize(), scheme), None
        integers, zero = linear.signed()
        scale = linear.scale
        if form.group_size and linear.group_size != form.group_size:
            # A group of all inputs, or of several of ours.
            repeats = -(-(linear.group_size or integers.shape[1]) // form.group_size)
            groups = scheme.groups(integers.shape[1])
            scale, zero = (np.repeat(values, repeats, axis=1)[:, :groups] for values in (scale, zero))
        with np.errstate(over="ignore"):
            scale = scale.astype(scale_dtype)
        if not np.all(np.isfinite(scale)) or not np.all(scale):
            raise ExportError(
                f"{name}: has scales that {scale_dtype} cannot hold; export with --dtype float32"
            )
        weight = QuantizedWeight(scheme, integers, scale, None if form.symmetric else zero)
        grid = None if linear.act_scale is None else ActivationGrid(linear.act_scale, linear.act_zero)
        return weight, grid

    def input_order(self, name: str) -> NDArray[np.int32]:
        return self._input_orders[name]

    def bias(self, name: str) -> NDArray[np.float32]:
        bias = self._source.linear(name).bias
        assert bias is not None
        return bias

    def row_divisors(self, module: str) -> NDArray[np.float64] | None:
        """What was smoothed was folded before the checkpoint was written."""
        return None

    def column_factors(self, module: str) -> NDArray[np.float64] | None:
        return None

    def _reorder(self, name: str, linear: QuantizedLinear) -> QuantizedLinear:
        """The layer with its inputs by groups, if graphs have these groups; notes their order."""
        order, ordered = linear.in_group_order()
        if _graph_group(ordered.group_size) is None:
            return linear
        self._input_orders[name] = order.astype(np.int32)
        mlp, _, part = name.rpartition(".")
        before = [f"{mlp}.gate_proj", f"{mlp}.up_proj"]
        if part == "down_proj" and set(before) <= set(self.names):
            self._output_orders |= dict.fromkeys(before, self._input_orders[name])
        return ordered

    def _gathers(self, name: str) -> bool:
        mlp, _, part = name.rpartition(".")
        return name in self._input_orders and not (
            part == "down_proj" and f"{mlp}.up_proj" in self._output_orders
        )

    def _form(self, name: str, linear: QuantizedLinear) -> WeightQuantization:
        size = _graph_group(linear.group_size)
        if size is None:
            self.rounded.append(name)
            return _ROUNDED
        activations = "float"
        if linear.act_scale is not None:
            activations = "per_tensor"
        elif linear.act_dynamic:
            activations = "per_token"
        if activations != "float" and not linear.is_symmetric:
            raise ExportError(f"{name}: zero points of weights do not go with int8 activations")
        return WeightQuantization(
            linear.bits, size, linear.is_symmetric, activations, reordered=self._gathers(name)
        )

    def _has_bias(self, name: str) -> bool:
        return self.network.attention_bias and ".self_attn." in name


def _graph_group(size: int | None) -> int | None:
    """The size of groups in a graph for a layer with groups of this size, None if there is none."""
    if not size:
        return size
    return next((group for group in _GROUPS if size % group == 0), None)


def open_prequantized(folder: Path, dtype: str) -> PrequantizedNetwork | None:
    """None where a checkpoint is of floats. ExportError: a kind of quantization that is not supported."""
    source = open_quantized(folder)
    return None if source is None else PrequantizedNetwork(source, dtype)
