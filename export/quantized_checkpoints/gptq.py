"""The GPTQ layout of AutoGPTQ, GPTQModel and transformers.

NAME.qweight int32 [in*bits/32, out] holds successive inputs to a word, NAME.qzeros int32 [groups,
out*bits/32] successive output channels; NAME.scales float16 [groups, out]; NAME.g_idx int32 [in] is the group
of each input. weight = (integer - zero) * scale, where format 'gptq' stores zero - 1 and 'gptq_v2' zero.
"""

from __future__ import annotations

import numpy as np

from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantized_checkpoints.linear import QuantizedLinear, unpack
from mindir_llm.export.quantized_checkpoints.settings import QuantizationSettings
from mindir_llm.export.quantized_checkpoints.tensors import LinearTensors

__all__ = ["read_gptq"]


def read_gptq(tensors: LinearTensors, settings: QuantizationSettings) -> QuantizedLinear:
    """The layer that these tensors hold; ExportError names the tensor that does not fit."""
    bits = settings.bits
    per_word = 32 // bits
    words = tensors.words("qweight")
    inputs, outputs = words.shape[0] * per_word, words.shape[1]
    groups = settings.groups(inputs)
    stored = unpack(tensors.words("qzeros", (groups, -(-outputs // per_word))), bits, axis=1)[:, :outputs]
    zero = stored
    middle = 1 << (bits - 1)
    # Some writers say 'gptq' and store zeros as in 'gptq_v2'. Where the integers are symmetric, it shows.
    if settings.zero_is_less_one and not (settings.symmetric and np.all(stored == middle)):
        # 0 less one was stored as the largest integer.
        zero = (stored + np.uint8(1)) & np.uint8((1 << bits) - 1)
    if settings.symmetric and not np.all(zero == middle):
        raise ExportError(
            f"{tensors.name}.qzeros: zero points differ from {middle}, but quantization_config.sym is true"
        )
    group_of = settings.successive(inputs)
    if tensors.has("g_idx"):
        group_of = tensors.integers("g_idx", (inputs,))
        if group_of.min() < 0 or group_of.max() >= groups:
            raise ExportError(f"{tensors.name}.g_idx: groups outside of 0 … {groups - 1}")
    elif settings.desc_act:
        raise ExportError(f"{tensors.name}.g_idx: missing, but quantization_config.desc_act is true")
    return QuantizedLinear(
        integers=np.ascontiguousarray(unpack(words, bits, axis=0).T),
        scale=np.ascontiguousarray(tensors.floats("scales", (groups, outputs)).T),
        zero=np.ascontiguousarray(zero.T),
        group_of=group_of,
        bits=bits,
        bias=tensors.bias(outputs),
    )
