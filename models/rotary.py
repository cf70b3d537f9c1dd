"""Rotary position embedding tables, computed once at export."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mindir_llm.models.config import LlamaConfig

__all__ = ["inverse_frequencies", "rotary_tables"]


def inverse_frequencies(config: LlamaConfig) -> NDArray[np.float64]:
    """Angle per position of each rotated pair, float64 [head_dim/2], in radians; Llama 3 scaling included."""
    pairs = np.arange(0, config.head_dim, 2, dtype=np.float64) / config.head_dim
    frequencies: NDArray[np.float64] = 1.0 / config.rope_theta**pairs
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    # Short wavelengths stay, long ones are stretched by `factor`, those between are blended linearly.
    turns = scaling.original_max_position_embeddings * frequencies / (2 * math.pi)
    blend = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = np.clip(blend, 0.0, 1.0)
    scaled: NDArray[np.float64] = blend * frequencies + (1 - blend) * frequencies / scaling.factor
    return scaled


def rotary_tables(config: LlamaConfig, rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosine and sine of positions 0 … rows-1, each float32 [rows, head_dim].

    Half-rotation layout: columns i and i + head_dim/2 hold the same angle. Angles are computed in float64 and
    rounded once, so that the tables do not lose precision at large positions.
    """
    angles = np.arange(rows, dtype=np.float64)[:, None] * inverse_frequencies(config)[None, :]
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
