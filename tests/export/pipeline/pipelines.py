"""Tiny checkpoints, token ids to calibrate with, and what a bundle holds in float64."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mindir_reader import parameter, read_model
from numpy.typing import NDArray
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportOptions, export_bundle
from mindir_llm.export.quantize.config import QuantConfig

GROUP = 32
IDS = [1, 7, 49, 0, 13, 13, 22, 5, 31, 40, 8, 17, 2, 3]


def write_token_ids(path: Path, sequences: int = 40, length: int = 24) -> Path:
    """A calibration file that needs no tokenizer."""
    rng = np.random.default_rng(7)
    lines = [{"token_ids": rng.integers(0, 50, length).tolist()} for _ in range(sequences)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def outlier_tensors(config: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Weights of a network some of whose channels are much larger than others, which methods smooth."""
    tensors = random_tensors(config)
    rng = np.random.default_rng(1)
    for name, values in tensors.items():
        if "layernorm" in name:
            values[rng.choice(len(values), 3, replace=False)] *= 8
        elif "up_proj" in name or "v_proj.weight" in name:
            values[rng.choice(len(values), 2, replace=False)] *= 6
    return tensors


def make_checkpoint(folder: Path, **changes: Any) -> tuple[Path, dict[str, Any]]:
    config = tiny_config(**changes)
    return write_checkpoint(folder, config, outlier_tensors(config)), config


def export(
    checkpoint: Path, bundle: Path, config: QuantConfig | None, text: Path | None, **options: Any
) -> Path:
    chosen = ExportOptions(config=config, calibration=text, max_seq_len=16, prefill_chunk=4, **options)
    return export_bundle(checkpoint, bundle, chosen)


def held(bundle: Path) -> dict[str, NDArray[Any]]:
    """The parameters of a bundle of target cpu as they are stored, by name."""
    model = read_model(bundle / "decode.mindir")
    return {tensor.name: parameter(bundle, tensor) for tensor in model.graph.parameter}


def dequantized(parameters: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float64]]:
    """Tensors of the checkpoint that a bundle stands for, float64."""
    tensors = {}
    for name, values in parameters.items():
        scale = parameters.get(f"{name}_scale")
        if not name.endswith((".weight", ".bias")):
            continue
        if scale is None:
            tensors[name] = values.astype(np.float64)
        elif values.dtype == np.uint8:
            integers = np.stack([values & 15, values >> 4], -1).reshape(len(values), -1) - 8.0
            size = GROUP if len(scale) > 1 else len(values)
            tensors[name] = (integers * np.repeat(scale.astype(np.float64), size, axis=0)[: len(values)]).T
        else:
            tensors[name] = values.astype(np.float64) * scale.astype(np.float64).reshape(-1, 1)
    return tensors
