"""The static facts of one traced graph, and what an operator set must offer to build a network from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from mindspore import Parameter, nn
from mindspore.common.initializer import initializer

from mindir_llm.models.quantization import WeightQuantization

__all__ = ["GraphShape", "OperatorSet", "empty_parameter"]


@dataclass(frozen=True)
class GraphShape:
    """Static dimensions and element types of one graph.

    batch: sequences B. tokens: T per sequence in one call (the prefill chunk, or 1 for decode). max_seq_len:
    rows S of each KV cache. rotary_rows: rows of the cosine and sine tables; S plus the prefill chunk, so
    that the padded rows of a last chunk still index inside them. dtype and kv_dtype: 'float16' or 'float32',
    of stored weights and of caches; caches may be 'int8' too. quantization: module name of a linear layer
    ('model.layers.3.mlp.down_proj', 'lm_head') -> how its weight is stored; one that is absent keeps dtype.
    kv_granularity: None with float caches. int8 ones hold value / scale, rounded: 'per_channel', where the
    scales are parameters of the graph, or 'per_token', each row of a head by its own, a 127th of its largest
    magnitude, which is stored in further caches.
    """

    batch: int
    tokens: int
    max_seq_len: int
    rotary_rows: int
    dtype: str
    kv_dtype: str
    quantization: Mapping[str, WeightQuantization]
    kv_granularity: str | None = None

    @property
    def caches_per_layer(self) -> int:
        """Keys and values, and the scales of their rows."""
        return 4 if self.kv_granularity == "per_token" else 2


class OperatorSet(Protocol):
    """Builds the cells whose primitives differ between targets. Activations are matrices [B*T, features]."""

    shape: GraphShape

    def embedding(self, vocab_size: int, hidden_size: int) -> nn.Cell:
        """ids int32 [B, T] -> activations [B*T, hidden]; holds `weight` [vocab, hidden] in the stored
        dtype."""

    def linear(self, name: str, in_features: int, out_features: int, has_bias: bool = False) -> nn.Cell:
        """[N, in] -> [N, out], quantized as GraphShape says of the module's name; holds `weight` and `bias`
        [out].

        `weight` is [out, in]; int8 in groups is [in, out]; int4 is [in, out/2] (out is even), the channels 2j
        and 2j+1 in one byte. A quantized one has its factors in `weight_scale`, its zero points, if it has
        any, in `weight_zero`. Where it takes its inputs in an order of its own, `input_order`, int32 [in],
        says which input each row of these is of. A calibrated grid of inputs is in `input_scale` and
        `input_zero`, and `bias`, int32 then, is always there. export.quantize.packing makes these values.
        """

    def tied_linear(self) -> nn.Cell:
        """(activations [N, in], weight [out, in]) -> [N, out], for a weight that another cell holds."""

    def norm(self, size: int, eps: float) -> nn.Cell:
        """Root mean square norm over the last axis; holds `weight` [size]."""

    def rotary(self, head_dim: int) -> nn.Cell:
        """input_position int32 [B] -> what `attention` needs to know about positions; holds the two
        tables."""

    def attention(self, heads: int, kv_heads: int, head_dim: int) -> nn.Cell:
        """(q, k, v [B*T, heads*head_dim], caches of the layer, rotary's result, key scale, value scale)
        -> (context [B*T, heads*head_dim], updated caches).

        Caches are those of keys and of values [B, Hkv, S, D], and with scales per token those of key scales
        and of value scales, float32 [B, Hkv, S, 1]. The two scales, float32 [Hkv, D], are None unless they
        are per channel.
        """

    def gated_silu(self) -> nn.Cell:
        """(gate, up [N, F]) -> silu(gate) * up [N, F]."""

    def to_float32(self) -> nn.Cell:
        """Activations -> the same numbers as float32."""


def empty_parameter(shape: tuple[int, ...], dtype: Any) -> Parameter:
    """A named-later parameter of zeros that holds no memory: the values are streamed in by the exporter."""
    return Parameter(initializer("zeros", shape, dtype), name="p", requires_grad=False)
