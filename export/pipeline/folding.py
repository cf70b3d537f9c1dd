"""Where the factors that a layer's inputs are divided by can go: into what makes these inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.scaling import grouped_query_ties
from mindir_llm.models.config import LlamaConfig

__all__ = ["Fold", "fold_of"]


@dataclass(frozen=True)
class Fold:
    """module: the norm, or the linear layer, whose outputs are divided. is_norm: which of the two. ties: for
    each input the output that it is made of, None where the two correspond (see grouped_query_ties)."""

    module: str
    is_norm: bool
    ties: NDArray[np.intp] | None = None


def fold_of(linears: Iterable[str], config: LlamaConfig) -> Fold:
    """For linear layers, by module name, that read the same inputs."""
    name = next(iter(linears))
    if name == "lm_head":
        return Fold("model.norm", True)
    layer, block, part = name.rsplit(".", 2)
    if part in ("q_proj", "k_proj", "v_proj"):
        return Fold(f"{layer}.input_layernorm", True)
    if part in ("gate_proj", "up_proj"):
        return Fold(f"{layer}.post_attention_layernorm", True)
    if part == "o_proj":
        ties = grouped_query_ties(config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        return Fold(f"{layer}.{block}.v_proj", False, ties)
    return Fold(f"{layer}.{block}.up_proj", False)
