"""The `quantization_config` object of a config.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.errors import ExportError

__all__ = ["QuantizationSettings"]

_BITS = {"awq": (4,), "gptq": (4, 8)}


@dataclass(frozen=True)
class QuantizationSettings:
    """How a checkpoint was quantized.

    method: 'awq' or 'gptq'. group_size: inputs that share a scale, 0 for all. symmetric: all zero points are
    the middle. desc_act: groups are scattered over the inputs. zero_is_less_one: GPTQ's first format.
    """

    method: str
    bits: int
    group_size: int
    symmetric: bool = False
    desc_act: bool = False
    zero_is_less_one: bool = False

    @classmethod
    def from_fields(cls, fields: Any) -> QuantizationSettings:
        """Check the fields of a quantization_config; ExportError names the one that is not supported.

        Fields that only describe how the quantization was found, or which kernel is to run it, are passed
        over.
        """
        if not isinstance(fields, Mapping):
            raise ExportError(f"quantization_config: expected an object, found {fields!r}")
        method = fields.get("quant_method")
        if method not in _BITS:
            raise ExportError(
                f"quantization_config.quant_method: {method!r} is not supported (supported: 'awq', 'gptq')"
            )
        bits = fields.get("bits", 4 if method == "awq" else None)
        if isinstance(bits, bool) or bits not in _BITS[method]:
            allowed = ", ".join(map(str, _BITS[method]))
            raise ExportError(
                f"quantization_config.bits: {bits!r} is not supported with {method} (supported: {allowed})"
            )
        size = fields.get("group_size", 128)
        if isinstance(size, bool) or not isinstance(size, int) or not (size == -1 or size >= 1):
            raise ExportError(f"quantization_config.group_size: {size!r} is neither -1 nor positive")
        size = max(size, 0)
        if method == "awq":
            _only(fields, "version", "gemm", ("gemm", "GEMM"))
            _only(fields, "zero_point", True, (True,))
            return cls(method, bits, size)
        stored = _only(fields, "checkpoint_format", "gptq", ("gptq", "gptq_v2"))
        return cls(
            method,
            bits,
            size,
            symmetric=_only(fields, "sym", False, (True, False)),
            desc_act=_only(fields, "desc_act", False, (True, False)),
            zero_is_less_one=stored == "gptq",
        )

    def groups(self, inputs: int) -> int:
        """How many scales an output channel of a layer with this many inputs has."""
        return -(-inputs // self.group_size) if self.group_size else 1

    def successive(self, inputs: int) -> NDArray[np.int32]:
        """The group of each input where groups are of successive ones, int32 [inputs]."""
        return (np.arange(inputs) // (self.group_size or inputs)).astype(np.int32)


def _only(fields: Mapping[str, Any], name: str, default: Any, allowed: tuple[Any, ...]) -> Any:
    value = fields.get(name)
    if value is None:
        value = default
    if value not in allowed or isinstance(value, bool) != isinstance(allowed[0], bool):
        raise ExportError(
            f"quantization_config.{name}: {value!r} is not supported (supported:"
            f" {', '.join(map(repr, allowed))})"
        )
    return value
