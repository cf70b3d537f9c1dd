"""Writes the demo model as a Hugging Face checkpoint folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from .network import Shape
from .tokenizer_training import TOKENIZER_CONFIG

__all__ = ["GENERATION_CONFIG", "read_weights", "write_checkpoint"]

GENERATION_CONFIG = {"bos_token_id": 1, "eos_token_id": 2, "max_length": 512}


def write_checkpoint(
    directory: Path, shape: Shape, weights: dict[str, NDArray[np.float32]], tokenizer: bytes
) -> None:
    """Write config.json, model.safetensors (float16), tokenizer.model and their companions.

    The same weights give the same bytes. ValueError where a weight does not fit float16.
    """
    halves = {}
    for name, values in sorted(weights.items()):
        halves[name] = values.astype(np.float16)
        if not np.isfinite(halves[name]).all():
            raise ValueError(f"{name} has a value that is not finite in float16")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "model.safetensors").write_bytes(save(halves, metadata={"format": "pt"}))
    (directory / "tokenizer.model").write_bytes(tokenizer)
    _write_json(directory / "config.json", shape.hugging_face_config())
    _write_json(directory / "generation_config.json", GENERATION_CONFIG)
    _write_json(directory / "tokenizer_config.json", TOKENIZER_CONFIG)


def read_weights(directory: Path) -> dict[str, NDArray[np.float32]]:
    """The weights that `write_checkpoint` wrote, as float32."""
    return {
        name: values.astype(np.float32) for name, values in load_file(directory / "model.safetensors").items()
    }


def _write_json(path: Path, fields: dict[str, Any]) -> None:
    path.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
