"""What a report tells of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mindir_llm.export.calibrate import CalibrationSettings
from mindir_llm.export.checkpoint import TensorEntry
from mindir_llm.export.options import Settings
from mindir_llm.export.pipeline.results import LayerError
from mindir_llm.export.report.speed import Speed
from mindir_llm.export.trace import ParameterSpec
from mindir_llm.models.config import LlamaConfig

__all__ = ["EMBEDDING", "LINEAR_KINDS", "Facts", "KindSize", "place_of", "sizes"]

LINEAR_KINDS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head")
EMBEDDING = "token embedding"
_OTHERS = {
    "embed_tokens": EMBEDDING,
    "input_layernorm": "norms",
    "post_attention_layernorm": "norms",
    "norm": "norms",
    "rotary": "rotary tables",
    "key_scale": "KV cache scales",
    "value_scale": "KV cache scales",
}
_KINDS = {kind: kind for kind in LINEAR_KINDS} | _OTHERS


@dataclass(frozen=True)
class Facts:
    """Of an export that has succeeded.

    calibration: how much was calibrated with, None if nothing. errors: of layers that a calibration
    quantized; weight_errors: relative errors of the weights of those that were rounded to nearest as they
    passed, by module name. is_prequantized: the checkpoint was quantized already, so nothing is known of
    errors. tensors: of the checkpoint; parameters: of the bundle. files: bytes of the bundle's files. speed:
    None if nobody measured.
    """

    checkpoint: Path
    bundle: Path
    config: LlamaConfig
    settings: Settings
    calibration: CalibrationSettings | None
    tensors: Mapping[str, TensorEntry]
    parameters: Sequence[ParameterSpec]
    files: Mapping[str, int]
    errors: Sequence[LayerError] = ()
    weight_errors: Mapping[str, float] = field(default_factory=dict)
    is_prequantized: bool = False
    warnings: Sequence[str] = ()
    speed: Speed | None = None


@dataclass(frozen=True)
class KindSize:
    """Tensors of one kind. weights: how many values, scales, zero points and biases of linear layers
    excepted. before, after: bytes in the checkpoint and in the bundle, those included."""

    kind: str
    weights: int
    before: int
    after: int


def place_of(module: str) -> tuple[str, int]:
    """'model.layers.3.mlp.up_proj' -> ('up_proj', 3); what is there only once is of layer 0."""
    parts = module.split(".")
    return parts[-1], int(parts[2]) if len(parts) > 3 else 0


def sizes(facts: Facts) -> list[KindSize]:
    """By kind of tensor, in the network's order; kinds without any tensor are left out."""
    order = [EMBEDDING, *LINEAR_KINDS, *dict.fromkeys(_OTHERS.values()), "other"]
    weights, before, after = ({kind: 0 for kind in order} for _ in range(3))
    for module, (outputs, inputs) in facts.config.linear_shapes().items():
        weights[place_of(module)[0]] += outputs * inputs
    for spec in facts.parameters:
        kind = _kind(spec.name)
        after[kind] += spec.nbytes
        if kind not in LINEAR_KINDS:
            weights[kind] += math.prod(spec.shape)
    for name, entry in facts.tensors.items():
        before[_kind(name)] += entry.length
    return [
        KindSize(kind, weights[kind], before[kind], after[kind])
        for kind in dict.fromkeys(order)
        if before[kind] or after[kind]
    ]


def _kind(tensor: str) -> str:
    return next((_KINDS[part] for part in tensor.split(".") if part in _KINDS), "other")
