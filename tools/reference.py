"""A float64 forward pass of Llama-family networks, straight from a Hugging Face checkpoint.
 This is the oracle that bundles are measured against. It reads config.json and the safetensors files with
code of its own, works one layer at a time in the plainest numpy, and shares nothing with the exporter, the
MindSpore cells or the engine: a mistake in one of them cannot hide in the other. (Checkpoints that are
quantized already are read by the exporter's readers, which have oracles of their own.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantized_checkpoints import open_quantized
from mindir_llm.tools.bundle_weights import BundleWeights

__all__ = ["CheckpointError", "ReferenceLlama", "Storage", "log_softmax"]

Float = NDArray[np.float64]

# Weights are kept in float64 up to this many bytes; a larger model is converted tensor by tensor at each use.
_KEPT_BYTES = 1 << 30

# safetensors type name -> how its bytes become floating point numbers.
_DECODE: dict[str, Callable[[NDArray[np.uint8]], Float]] = {
    "F64": lambda raw: raw.view("<f8").astype(np.float64),
    "F32": lambda raw: raw.view("<f4").astype(np.float64),
    "F16": lambda raw: raw.view("<f2").astype(np.float64),
    # bfloat16 is the upper half of a float32.
    "BF16": lambda raw: (raw.view("<u2").astype(np.uint32) << 16).view(np.float32).astype(np.float64),
}


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be read; the message names the file and the field or tensor."""


@dataclass(frozen=True)
class Storage:
    """How a bundle stores numbers, so that the reference can round where the bundle rounds.

    dtype: 'float32' or 'float16', of weights and of quantization scales; None keeps the checkpoint's values.
    kv_dtype: 'float32', 'float16' or 'int8', of the caches; None keeps float64. kv_scales: of int8 caches:
    'model.layers.{i}.self_attn.key_scale', '….value_scale' -> [KV heads, head_dim]; without them each row of
    a head has its own scale.
    weight_bits: 8 or 4, of linear layers (lm_head included) as symmetric integers; None keeps them in dtype.
    group_size: inputs of an output channel that share a scale; 0 means all. activation_bits: 8, of what
    linear layers take in, one scale per token (scales of weights are float32 then); None keeps float64.
    held: the tensors of the bundle itself, where its integers are not the nearest; they and what it says of
    activations count instead.
    """

    dtype: str | None = None
    kv_dtype: str | None = None
    weight_bits: int | None = None
    group_size: int = 0
    activation_bits: int | None = None
    kv_scales: Mapping[str, NDArray[np.float32]] | None = None
    held: BundleWeights | None = None

    def stored(self, weight: Float, linear: bool) -> Float:
        """The values that `weight` has in the bundle; linear weights are [out, in]."""
        if self.dtype is None:
            return weight
        if not linear or self.weight_bits is None:
            return weight.astype(self.dtype).astype(np.float64)
        low, high = {8: (-127, 127), 4: (-8, 7)}[self.weight_bits]
        # The integers fit the scale as it is stored. The division is in float32 as in the exporter: in
        # float64 a few values close to a tie would fall to the other integer.
        single = weight.astype(np.float32)
        columns = single.shape[1]
        result = np.empty_like(weight)
        for start in range(0, columns, self.group_size or columns):
            group = single[:, start : start + (self.group_size or columns)]
            scale = np.abs(group).max(axis=1, keepdims=True) / np.float32(high)
            scale = scale.astype("float32" if self.activation_bits else self.dtype)
            scale[scale == 0] = 1
            integers = np.clip(np.rint(group / scale.astype(np.float32)), low, high)
            result[:, start : start + group.shape[1]] = integers.astype(np.float64) * scale.astype(np.float64)
        return result

    def taken_in(self, x: Float, module: str) -> Float:
        """The values [n, in] that the linear layer of this name multiplies."""
        bits = self.activation_bits
        if self.held is not None:
            if (grid := self.held.input_grid(module)) is not None:
                factor, zero = grid
                result: Float = (np.clip(np.rint(x * factor + zero), -128, 127) - zero) / factor
                return result
            bits = self.held.entry(module).get("activation_bits")
        if bits is None:
            return x
        largest = np.maximum(np.abs(x).max(axis=1, keepdims=True), 1e-30)
        rounded: Float = np.rint(x * (127 / largest)) * (largest / 127)
        return rounded

    def cached(self, rows: Float, scale_name: str) -> Float:
        """The values that keys or values [KV heads, n, head_dim] have in the cache; scale_name: their key in
        kv_scales."""
        if self.kv_dtype is None:
            return rows
        if self.kv_dtype != "int8":
            return rows.astype(self.kv_dtype).astype(rows.dtype)
        rounded: Float
        if self.kv_scales is None:
            step = np.maximum(np.abs(rows).max(axis=-1, keepdims=True), 1e-30) / 127
            rounded = np.rint(rows / step) * step
        else:
            step = self.kv_scales[scale_name][:, None, :].astype(rows.dtype)
            rounded = np.clip(np.rint(rows / step), -128, 127) * step
        return rounded


class _Weights:
    """Tensors of a checkpoint folder by name: model.safetensors, or the shards that an index names."""

    def __init__(self, folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        else:
            names = ["model.safetensors"]
        self._places: dict[str, tuple[Path, str, tuple[int, ...], int, int]] = {}
        for name in names:
            self._read_header(folder / name)

    def _read_header(self, path: Path) -> None:
        """A safetensors file: header length (8 bytes), header (JSON), then the tensors' bytes."""
        try:
            with path.open("rb") as file:
                length = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(length))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{path}: cannot read as safetensors: {error}") from None
        for name, entry in header.items():
            if name != "__metadata__":
                begin, end = entry["data_offsets"]
                place = (path, entry["dtype"], tuple(entry["shape"]), 8 + length + begin, end - begin)
                self._places[name] = place

    def __contains__(self, name: str) -> bool:
        return name in self._places

    @property
    def float64_bytes(self) -> int:
        return sum(8 * math.prod(place[2]) for place in self._places.values())

    def read(self, name: str) -> Float:
        """A tensor's values; CheckpointError where it is missing or of a type unknown here."""
        if name not in self._places:
            raise CheckpointError(f"tensor {name}: not in the checkpoint")
        path, kind, shape, offset, length = self._places[name]
        if kind not in _DECODE:
            raise CheckpointError(f"{path}: tensor {name}: type {kind} is not supported")
        with path.open("rb") as file:
            file.seek(offset)
            raw = np.frombuffer(file.read(length), np.uint8)
        return _DECODE[kind](raw).reshape(shape)


class ReferenceLlama:
    """A Llama-family network in float64 and its KV cache: one sequence, any number of tokens a call."""

    def __init__(
        self, checkpoint: str | Path, storage: Storage | None = None, precision: str = "float64"
    ) -> None:
        """checkpoint: a Hugging Face folder. storage: round weights and caches as a bundle does. precision:
        'float64', or 'float32' where speed counts more than the last digits."""
        folder = Path(checkpoint)
        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise CheckpointError(f"{folder / 'config.json'}: cannot read: {reason}") from None
        self.storage = storage or Storage()
        self._precision = np.dtype(precision)
        self.layers = int(config["num_hidden_layers"])
        self.heads = int(config["num_attention_heads"])
        self.kv_heads = int(config.get("num_key_value_heads") or self.heads)
        self.head_dim = int(config.get("head_dim") or config["hidden_size"] // self.heads)
        self.vocab_size = int(config["vocab_size"])
        self.eps = float(config["rms_norm_eps"])
        self.frequencies = _frequencies(config, self.head_dim)
        self._weights = _Weights(folder)
        self._head = "model.embed_tokens.weight" if config.get("tie_word_embeddings") else "lm_head.weight"
        if self.storage.held is not None and "lm_head.weight" in self.storage.held:
            self._head = "lm_head.weight"  # a quantized copy of tied embeddings
        self._quantized = None
        if "quantization_config" in config or (folder / "quantization_description.json").exists():
            self._quantized = open_quantized(folder)
        self._keep = self._weights.float64_bytes <= _KEPT_BYTES
        self._kept: dict[tuple[str, bool], Float] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the context."""
        empty = np.zeros((self.kv_heads, 0, self.head_dim), self._precision)
        self.keys = [empty] * self.layers
        self.values = [empty] * self.layers

    def feed(self, ids: Sequence[int] | NDArray[np.integer]) -> Float:
        """Append tokens to the context; return logits [vocab] that follow the last of them."""
        logits: Float = self.feed_all(ids, rows=[len(ids) - 1])[0]
        return logits

    def feed_all(
        self,
        ids: Sequence[int] | NDArray[np.integer],
        rows: Sequence[int] | NDArray[np.integer] | None = None,
    ) -> Float:
        """Append tokens to the context; return logits [len(rows), vocab] that follow ids[rows].

        Without rows: [len(ids), vocab], those that follow each token.
        """
        hidden = self._hidden(ids)
        return self._project(hidden if rows is None else hidden[np.asarray(rows)])

    def _weight(self, name: str, linear: bool = False) -> Float:
        if (name, linear) in self._kept:
            return self._kept[name, linear]
        if self.storage.held is not None:
            weight = self.storage.held.read(name)
        else:
            weight = self.storage.stored(self._original(name), linear)
        weight = weight.astype(self._precision, copy=False)
        if self._keep:
            self._kept[name, linear] = weight
        return weight

    def _original(self, name: str) -> Float:
        """A tensor of the checkpoint, dequantized where that has integers of another program's."""
        module = name.removesuffix(".weight")
        if self._quantized is not None and name.endswith(".weight") and module in self._quantized.names:
            return self._quantized.linear(module).dequantize().astype(np.float64)
        return self._weights.read(name)

    def _linear(self, x: Float, name: str) -> Float:
        y: Float = self.storage.taken_in(x, name) @ self._weight(f"{name}.weight", linear=True).T
        if f"{name}.bias" in (self.storage.held or self._weights):
            y = y + self._weight(f"{name}.bias")
        return y

    def _norm(self, x: Float, name: str) -> Float:
        scale = 1 / np.sqrt((x * x).mean(axis=-1, keepdims=True) + self.eps)
        return x * scale * self._weight(f"{name}.weight")

    def _project(self, x: Float) -> Float:
        """Hidden states [n, hidden] -> logits [n, vocab]."""
        x = self.storage.taken_in(self._norm(x, "model.norm"), "lm_head")
        logits: Float = x @ self._weight(self._head, linear=True).T
        return logits

    def _hidden(self, ids: Sequence[int] | NDArray[np.integer]) -> Float:
        """Token ids -> hidden states [len(ids), hidden] before the final norm, appending to the caches."""
        if not len(ids):
            raise ValueError("feed needs at least one token")
        x = self._weight("model.embed_tokens.weight")[np.asarray(ids)]
        for layer in range(self.layers):
            name = f"model.layers.{layer}"
            x = x + self._attention(self._norm(x, f"{name}.input_layernorm"), layer)
            h = self._norm(x, f"{name}.post_attention_layernorm")
            gate = self._linear(h, f"{name}.mlp.gate_proj")
            up = self._linear(h, f"{name}.mlp.up_proj")
            x = x + self._linear(gate / (1 + np.exp(-gate)) * up, f"{name}.mlp.down_proj")
        return x

    def _attention(self, x: Float, layer: int) -> Float:
        """Causal self-attention over cache and new tokens: [n, hidden] -> [n, hidden]."""
        name = f"model.layers.{layer}.self_attn"
        n, past = len(x), self.keys[layer].shape[1]
        positions = np.arange(past, past + n)

        def heads(projection: str, count: int) -> Float:  # [count, n, head_dim]
            rows = self._linear(x, f"{name}.{projection}")
            return rows.reshape(n, count, self.head_dim).transpose(1, 0, 2)

        q = self._rotate(heads("q_proj", self.heads), positions)
        k = self._rotate(heads("k_proj", self.kv_heads), positions)
        v = heads("v_proj", self.kv_heads)
        k, v = self.storage.cached(k, f"{name}.key_scale"), self.storage.cached(v, f"{name}.value_scale")
        self.keys[layer] = np.concatenate([self.keys[layer], k], axis=1)
        self.values[layer] = np.concatenate([self.values[layer], v], axis=1)

        hidden = np.arange(past + n)[None, :] > positions[:, None]  # [n, past + n]: the future
        context = np.empty((n, self.heads, self.head_dim), x.dtype)
        for head in range(self.heads):
            shared = head // (self.heads // self.kv_heads)
            scores = q[head] @ self.keys[layer][shared].T / math.sqrt(self.head_dim)
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            context[:, head] = weights @ self.values[layer][shared]
        return self._linear(context.reshape(n, -1), f"{name}.o_proj")

    def _rotate(self, x: Float, positions: NDArray[np.integer]) -> Float:
        """Rotary embedding of [heads, n, head_dim]: component i turns with component i + head_dim/2."""
        angles = positions[:, None] * self.frequencies
        cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
        a, b = np.split(x, 2, axis=-1)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def log_softmax(logits: NDArray[np.floating]) -> Float:
    """Natural logarithms of the probabilities, over the last axis, in float64."""
    shifted = logits.astype(np.float64) - np.max(logits, axis=-1, keepdims=True)
    result: Float = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def _frequencies(config: dict[str, Any], head_dim: int) -> Float:
    """Radians per position of each rotated pair, [head_dim/2]."""
    both = config.get("rope_parameters") or {}  # transformers 5 keeps base and scaling in one object
    theta = float(both.get("rope_theta") or config.get("rope_theta") or 10000.0)
    scaling = both or config.get("rope_scaling") or {}
    frequencies = np.array([theta ** (-2 * i / head_dim) for i in range(head_dim // 2)])
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return frequencies
    if kind != "llama3":
        raise CheckpointError(f"config.json: rope scaling {kind!r} is not supported by the reference")
    # Llama 3.1: wavelengths (in tokens) that do not fit low_freq_factor times into the original context are
    # stretched by `factor`, those that fit high_freq_factor times stay, and the ones between move from the
    # one to the other.
    context, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    for i, frequency in enumerate(frequencies):
        wavelength = 2 * math.pi / frequency
        if wavelength > context / low:
            frequencies[i] = frequency / factor
        elif wavelength > context / high:
            smooth = (context / wavelength - low) / (high - low)
            frequencies[i] = (1 - smooth) * frequency / factor + smooth * frequency
    return frequencies
