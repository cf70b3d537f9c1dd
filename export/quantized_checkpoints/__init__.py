"""Checkpoints that other programs have quantized: what config.json says of them, and their integers.

    source = open_quantized("Llama-2-7B-AWQ")  # None: the checkpoint is not quantized
    for name in source.names:  # 'model.layers.0.self_attn.q_proj', …
        linear = source.linear(name)  # integers, scales and zeros of one layer

Tensors that are not quantized are read from `source.checkpoint` as always. Needs numpy only.
"""

from mindir_llm.export.quantized_checkpoints.linear import QuantizedLinear
from mindir_llm.export.quantized_checkpoints.source import QuantizedCheckpoint, open_quantized

__all__ = ["QuantizedCheckpoint", "QuantizedLinear", "open_quantized"]
