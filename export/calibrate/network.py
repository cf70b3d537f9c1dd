"""The parts of a Llama layer in numpy, in the precision of what they are given; one sequence at a time."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.rotary import inverse_frequencies

__all__ = ["attention", "linear", "rms_norm", "rotate", "rotation", "swiglu"]

Float = NDArray[np.floating[Any]]

# Queries whose scores are computed together.
_ROWS = 128


def rms_norm(x: Float, weight: Float, eps: float) -> Float:
    """[n, hidden] -> [n, hidden]."""
    square = np.einsum("ij,ij->i", x, x)[:, None] / x.dtype.type(x.shape[1])
    result: Float = x / np.sqrt(square + x.dtype.type(eps)) * weight
    return result


def linear(x: Float, weight: Float, bias: Float | None = None) -> Float:
    """[n, in] times [out, in] transposed, plus [out]."""
    y: Float = x @ weight.T
    if bias is not None:
        y += bias
    return y


def swiglu(gate: Float, up: Float) -> Float:
    """silu(gate) * up, [n, intermediate]; overwrites gate."""
    with np.errstate(over="ignore"):  # exp(-x) of a very negative x is infinite, and the quotient a zero
        denominator = np.exp(-gate)
    denominator += 1
    gate /= denominator
    gate *= up
    return gate


def rotation(config: LlamaConfig, rows: int, dtype: DTypeLike) -> tuple[Float, Float]:
    """Cosine and sine of the angles of positions 0 … rows-1, each [rows, head_dim/2]; rounded once."""
    angles = np.arange(rows, dtype=np.float64)[:, None] * inverse_frequencies(config)
    return np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)


def rotate(x: Float, cos: Float, sin: Float) -> Float:
    """Rotary embedding of [n, heads, head_dim]: component i turns with component i + head_dim/2."""
    cos, sin = cos[: len(x), None], sin[: len(x), None]
    a, b = np.split(x, 2, axis=-1)
    result: Float = np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)
    return result


def attention(q: Float, k: Float, v: Float) -> Float:
    """Causal attention from position 0: q [n, heads, head_dim], k and v [n, kv_heads, head_dim] ->
    [n, heads*head_dim].

    Scores exist for the query heads of one key head and some rows at a time, which bounds memory and leaves
    most of the future out.
    """
    n, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    group = heads // kv_heads
    future = np.triu(np.full((_ROWS, _ROWS), -np.inf, q.dtype), 1)
    q = q * q.dtype.type(1 / math.sqrt(head_dim))
    context = np.empty_like(q)
    for shared in range(kv_heads):
        mine = slice(shared * group, (shared + 1) * group)
        for start in range(0, n, _ROWS):
            end = min(start + _ROWS, n)
            scores = q[start:end, mine].transpose(1, 0, 2) @ k[:end, shared].T  # [group, rows, end]
            scores[:, :, start:] += future[: end - start, : end - start]
            scores -= scores.max(axis=-1, keepdims=True)
            np.exp(scores, out=scores)
            scores /= scores.sum(axis=-1, keepdims=True)
            context[start:end, mine] = (scores @ v[:end, shared]).transpose(1, 0, 2)
    return context.reshape(n, heads * head_dim)
