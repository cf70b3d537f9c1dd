"""What a token costs on paper: bytes to read, and multiply-accumulates. Nothing is measured here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mindir_llm.tools.bench.errors import BenchError

__all__ = ["Costs", "costs", "linear_bytes"]

_EMBEDDING = "model.embed_tokens."
_HEAD = "lm_head."
_KV_ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class Costs:
    """Per token of one sequence.

    weight_bytes: weights that a decode step reads, each once, as the bundle stores them. kv_bytes_per_row:
    keys and values of one earlier token in all layers. body_macs: multiply-accumulates of the decoder layers'
    linear operators for one row; head_macs: of the output head for one row.
    """

    weight_bytes: int
    kv_bytes_per_row: int
    body_macs: int
    head_macs: int

    def decode_bytes(self, rows: float) -> float:
        """Bytes read for one token that attends to `rows` tokens, itself included."""
        return self.weight_bytes + self.kv_bytes_per_row * rows

    def prefill_macs(self, tokens: int) -> int:
        """Multiply-accumulates of the linear operators for a prompt; only its last row needs the head."""
        return tokens * self.body_macs + self.head_macs


def costs(manifest: Mapping[str, Any], parameters: Sequence[Mapping[str, Any]]) -> Costs:
    """From a bundle's manifest and its decode graph's parameters ({"name", "dims", "nbytes"}). BenchError:
    KV caches of an unknown type."""
    model = manifest["model"]
    hidden, width = model["hidden_size"], model["intermediate_size"]
    queries = model["num_attention_heads"] * model["head_dim"]
    keys = model["num_key_value_heads"] * model["head_dim"]
    layers = model["num_hidden_layers"]
    if manifest["kv_dtype"] not in _KV_ITEM_BYTES:
        raise BenchError(f"kv_dtype {manifest['kv_dtype']}: its size is not known here")
    kv_item = _KV_ITEM_BYTES[manifest["kv_dtype"]]
    scales = 2 * layers * model["num_key_value_heads"] if manifest.get("kv_granularity") == "per_token" else 0
    return Costs(
        weight_bytes=sum(_read_bytes(parameters)),
        kv_bytes_per_row=2 * layers * keys * kv_item + 4 * scales,
        body_macs=layers * (hidden * (2 * queries + 2 * keys) + 3 * hidden * width),
        head_macs=hidden * model["vocab_size"],
    )


def _read_bytes(parameters: Sequence[Mapping[str, Any]]) -> Iterable[int]:
    # A tied head of float weights is the embedding table itself, read from end to end.
    has_head = any(one["name"].startswith(_HEAD) for one in parameters)
    for one in parameters:
        looked_up = one["name"].startswith("rotary.") or (one["name"].startswith(_EMBEDDING) and has_head)
        rows = one["dims"][0] if looked_up else 1
        yield one["nbytes"] // max(rows, 1)


def linear_bytes(name: str, parameters: Iterable[Mapping[str, Any]]) -> int | None:
    """Stored bytes of the linear operators that a profile calls `name`; None where it names no weights.

    name: one parameter's ("model.layers.0.mlp.up_proj.weight", with or without ".weight"), or several of
    them joined by "+" or "," where the engine fused them.
    """
    stems = [stem.strip().removesuffix(".weight") for stem in re.split(r"[+,]", name)]
    total = 0
    for stem in stems:
        found = [one["nbytes"] for one in parameters if stem and one["name"].startswith(stem + ".")]
        if not found:
            return None
        total += sum(found)
    return total
