"""The full-sequence Llama that training runs; the cells for inference, with caches, are mindir_llm.models.

Parameter names and layouts are those of a Hugging Face checkpoint: to export is to write them out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from numpy.typing import NDArray

__all__ = ["Shape", "TrainingLlama", "TrainingLoss"]


@dataclass(frozen=True)
class Shape:
    """Dimensions of the demo model; every head is as wide as the others, and embeddings are tied."""

    vocab_size: int = 1024
    hidden_size: int = 128
    intermediate_size: int = 384
    num_hidden_layers: int = 6
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 32
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    max_position_embeddings: int = 512

    def hugging_face_config(self) -> dict[str, Any]:
        """The fields of config.json."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "max_position_embeddings": self.max_position_embeddings,
            "mlp_bias": False,
            "model_type": "llama",
            "num_attention_heads": self.num_attention_heads,
            "num_hidden_layers": self.num_hidden_layers,
            "num_key_value_heads": self.num_key_value_heads,
            "rms_norm_eps": self.rms_norm_eps,
            "rope_scaling": None,
            "rope_theta": self.rope_theta,
            "tie_word_embeddings": True,
            "torch_dtype": "float16",
            "vocab_size": self.vocab_size,
        }


def rotary_tables(shape: Shape, length: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """cos and sin [length, head_dim] in the half-rotation layout: both halves hold the same angles."""
    half = shape.head_dim // 2
    frequencies = shape.rope_theta ** (-np.arange(half, dtype=np.float64) / half)
    angles = np.arange(length, dtype=np.float64)[:, None] * frequencies[None, :]
    angles = np.concatenate([angles, angles], axis=1)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


# attribute of a layer -> the parameter's name in a checkpoint
_LAYER_PARAMETERS = {
    "norm1": "input_layernorm.weight",
    "q": "self_attn.q_proj.weight",
    "k": "self_attn.k_proj.weight",
    "v": "self_attn.v_proj.weight",
    "o": "self_attn.o_proj.weight",
    "norm2": "post_attention_layernorm.weight",
    "gate": "mlp.gate_proj.weight",
    "up": "mlp.up_proj.weight",
    "down": "mlp.down_proj.weight",
}


class _Layer(nn.Cell):
    def __init__(self, shape: Shape, length: int, generator: np.random.Generator) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (
            shape.num_attention_heads,
            shape.num_key_value_heads,
            shape.head_dim,
        )
        self.hidden, self.length, self.eps = shape.hidden_size, length, shape.rms_norm_eps
        q_width, kv_width = self.heads * self.head_dim, self.kv_heads * self.head_dim

        def weight(rows: int, columns: int, scale: float = 1.0) -> Parameter:
            values = generator.standard_normal((rows, columns)) * (scale / math.sqrt(columns))
            return Parameter(Tensor(values.astype(np.float32)))

        # The two matrices that write into the residual stream start smaller, the deeper the network the more.
        out_scale = 1 / math.sqrt(2 * shape.num_hidden_layers)
        ones = np.ones(shape.hidden_size, np.float32)
        self.norm1 = Parameter(Tensor(ones))
        self.q = weight(q_width, shape.hidden_size)
        self.k = weight(kv_width, shape.hidden_size)
        self.v = weight(kv_width, shape.hidden_size)
        self.o = weight(shape.hidden_size, q_width, out_scale)
        self.norm2 = Parameter(Tensor(ones))
        self.gate = weight(shape.intermediate_size, shape.hidden_size)
        self.up = weight(shape.intermediate_size, shape.hidden_size)
        self.down = weight(shape.hidden_size, shape.intermediate_size, out_scale)
        self.linear = ops.MatMul(transpose_b=True)
        self.dots = ops.BatchMatMul(transpose_b=True)
        self.mix = ops.BatchMatMul()

    def _norm(self, x: Tensor, gamma: Parameter) -> Tensor:
        return x * ops.rsqrt((x * x).mean(-1, keep_dims=True) + self.eps) * gamma

    def _heads(self, x: Tensor, heads: int) -> Tensor:
        return ops.transpose(ops.reshape(x, (-1, self.length, heads, self.head_dim)), (0, 2, 1, 3))

    def _rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        half = self.head_dim // 2
        return x * cos + ops.cat((-x[..., half:], x[..., :half]), -1) * sin

    def construct(self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor) -> Tensor:
        h = self._norm(x, self.norm1)
        q = self._rotate(self._heads(self.linear(h, self.q), self.heads), cos, sin)
        k = self._rotate(self._heads(self.linear(h, self.k), self.kv_heads), cos, sin)
        v = self._heads(self.linear(h, self.v), self.kv_heads)
        # Query heads of one group lie next to each other: stacked as rows, they need one product.
        group = self.heads // self.kv_heads
        q = ops.reshape(
            q * (1 / math.sqrt(self.head_dim)), (-1, self.kv_heads, group * self.length, self.head_dim)
        )
        scores = ops.reshape(self.dots(q, k), (-1, self.heads, self.length, self.length)) + mask
        # Softmax with its division after the product with the values, where a column of ones collects the
        # divisors: MindSpore's gradient of softmax is slow on a CPU. Scores stay far below 88, where exp
        # would overflow; training stops should they not.
        weights = ops.reshape(ops.exp(scores), (-1, self.kv_heads, group * self.length, self.length))
        mixed = self.mix(weights, ops.cat((v, ops.ones_like(v[..., :1])), -1))
        mixed = ops.reshape(
            mixed[..., : self.head_dim] / mixed[..., self.head_dim :],
            (-1, self.heads, self.length, self.head_dim),
        )
        mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (-1, self.heads * self.head_dim))
        x = x + self.linear(mixed, self.o)
        h = self._norm(x, self.norm2)
        return x + self.linear(ops.silu(self.linear(h, self.gate)) * self.linear(h, self.up), self.down)


class TrainingLlama(nn.Cell):
    """ids and document numbers, both int32 [B, length] -> logits float32 [B * length, vocab_size].

    A position attends to earlier positions of its own document only. Rotary positions count from the start
    of the row; as they act by their differences, a document's logits do not depend on where it starts.
    """

    def __init__(self, shape: Shape, length: int, seed: int = 0) -> None:
        super().__init__()
        generator = np.random.default_rng(seed)
        self.length, self.eps = length, shape.rms_norm_eps
        cos, sin = rotary_tables(shape, length)
        self.cos, self.sin = Tensor(cos), Tensor(sin)
        self.causal = Tensor(np.tril(np.ones((1, length, length), np.bool_)))
        table = (generator.standard_normal((shape.vocab_size, shape.hidden_size)) * 0.05).astype(np.float32)
        self.table = Parameter(Tensor(table), name="model.embed_tokens.weight")
        self.layers = nn.CellList([_Layer(shape, length, generator) for _ in range(shape.num_hidden_layers)])
        self.norm = Parameter(Tensor(np.ones(shape.hidden_size, np.float32)), name="model.norm.weight")
        self.linear = ops.MatMul(transpose_b=True)
        # Putting a layer into the list has renamed its parameters after their attributes.
        for index, layer in enumerate(self.layers):
            for attribute, name in _LAYER_PARAMETERS.items():
                getattr(layer, attribute).name = f"model.layers.{index}.{name}"

    def construct(self, ids: Tensor, documents: Tensor) -> Tensor:
        same = ops.equal(ops.expand_dims(documents, 2), ops.expand_dims(documents, 1))
        mask = ops.expand_dims((1.0 - ops.cast(ops.logical_and(same, self.causal), ms.float32)) * -1e9, 1)
        x = ops.gather(self.table, ops.reshape(ids, (-1,)), 0)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin, mask)
        x = x * ops.rsqrt((x * x).mean(-1, keep_dims=True) + self.eps) * self.norm
        return self.linear(x, self.table)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """All parameters by their Hugging Face names, float32."""
        return {parameter.name: parameter.asnumpy() for parameter in self.trainable_params()}


class TrainingLoss(nn.Cell):
    """Mean next-token cross entropy, in nats, over the positions whose target is not negative."""

    def __init__(self, network: TrainingLlama, vocab_size: int) -> None:
        super().__init__(auto_prefix=False)
        self.network = network
        self.one_hot = nn.OneHot(depth=vocab_size)
        self.cross_entropy = ops.SoftmaxCrossEntropyWithLogits()

    def construct(self, ids: Tensor, documents: Tensor, targets: Tensor) -> Tensor:
        targets = ops.reshape(targets, (-1,))
        losses, _ = self.cross_entropy(self.network(ids, documents), self.one_hot(targets))
        counts = ops.cast(targets >= 0, ms.float32)
        return (losses * counts).sum() / counts.sum()
