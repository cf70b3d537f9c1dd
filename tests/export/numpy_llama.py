"""A float64 Llama over a whole sequence at once, written from the paper's formulas and nothing of ours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def all_logits(
    config: dict[str, Any],
    tensors: dict[str, NDArray[Any]],
    ids: Sequence[int],
    int8_rows: bool = False,
    int8_caches: str | None = None,
    inputs: Callable[[str, Array], Array] | None = None,
) -> Array:
    """Logits [tokens, vocab] after each token of a sequence that starts at position 0. int8_rows: what linear
    layers take in is rounded to integers times a 127th of each row's largest magnitude. int8_caches: keys and
    values are rounded likewise: 'per_token', each head's row by itself; 'per_channel', from -128 to 127 times
    tensors['model.layers.{i}.self_attn.key_scale'], '….value_scale' [heads, head_dim]. inputs: gets each
    layer's name and what it takes in, and returns what it shall take instead."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    dim = config.get("head_dim") or config["hidden_size"] // heads
    n = len(ids)
    angles = np.outer(np.arange(n), _frequencies(config, dim))
    cos, sin = np.cos(angles), np.sin(angles)
    x = w["model.embed_tokens.weight"][list(ids)]

    def linear(values: Array, name: str) -> Array:
        if int8_rows:
            step = np.abs(values).max(-1, keepdims=True) / 127
            values = np.rint(values / step) * step
        if inputs is not None:
            values = inputs(name, values)
        y = values @ w[name + ".weight"].T
        return y + w[name + ".bias"] if name + ".bias" in w else y

    def norm(values: Array, name: str) -> Array:
        scale = np.sqrt((values**2).mean(-1, keepdims=True) + config["rms_norm_eps"])
        return values / scale * w[name + ".weight"]

    def rotate(values: Array) -> Array:
        a, b = values[..., : dim // 2], values[..., dim // 2 :]
        c, s = cos[:, None], sin[:, None]
        return np.concatenate([a * c - b * s, b * c + a * s], -1)

    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        h = norm(x, name + "input_layernorm")
        q = rotate(linear(h, name + "self_attn.q_proj").reshape(n, heads, dim))
        k = rotate(linear(h, name + "self_attn.k_proj").reshape(n, kv_heads, dim))
        v = linear(h, name + "self_attn.v_proj").reshape(n, kv_heads, dim)
        if int8_caches == "per_token":
            steps = [np.abs(rows).max(-1, keepdims=True) / 127 for rows in (k, v)]
            k, v = (np.rint(rows / step) * step for rows, step in zip((k, v), steps, strict=True))
        elif int8_caches == "per_channel":
            steps = [w[f"{name}self_attn.{kind}_scale"] for kind in ("key", "value")]
            k, v = (
                np.clip(np.rint(rows / step), -128, 127) * step
                for rows, step in zip((k, v), steps, strict=True)
            )
        context = np.zeros((n, heads, dim))
        for head in range(heads):
            g = head // (heads // kv_heads)
            scores = q[:, head] @ k[:, g].T / math.sqrt(dim)
            scores[np.triu_indices(n, 1)] = -np.inf
            p = np.exp(scores - scores.max(-1, keepdims=True))
            context[:, head] = p / p.sum(-1, keepdims=True) @ v[:, g]
        x = x + linear(context.reshape(n, heads * dim), name + "self_attn.o_proj")
        h = norm(x, name + "post_attention_layernorm")
        gate = linear(h, name + "mlp.gate_proj")
        x = x + linear(gate / (1 + np.exp(-gate)) * linear(h, name + "mlp.up_proj"), name + "mlp.down_proj")
    head_name = "model.embed_tokens" if config["tie_word_embeddings"] else "lm_head"
    logits: Array = linear(norm(x, "model.norm"), head_name)
    return logits


def _frequencies(config: dict[str, Any], dim: int) -> Array:
    scaling = config.get("rope_scaling")
    result = []
    for i in range(0, dim, 2):
        f = config["rope_theta"] ** (-i / dim)
        if scaling:
            wavelength = 2 * math.pi / f
            original = scaling["original_max_position_embeddings"]
            low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
            if wavelength > original / low:
                f /= scaling["factor"]
            elif wavelength >= original / high:
                smooth = (original / wavelength - low) / (high - low)
                f = (1 - smooth) * f / scaling["factor"] + smooth * f
        result.append(f)
    return np.array(result)
