"""The Llama network (Llama 1-3.2, TinyLlama, Mistral without window) as static-shape MindSpore cells.

Parameter names are the checkpoint's own, plus `….weight_scale` and others of quantized weights (see
models.graph), `rotary.cos` and `rotary.sin`, and `….self_attn.key_scale` and `value_scale` of int8 caches
with scales per channel. No weights and no I/O here: parameters are empty, and the exporter streams their
values past the traced graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from mindir_llm.models.config import LlamaConfig
from mindir_llm.models.graph import GraphShape, OperatorSet, empty_parameter

__all__ = ["LlamaForCausalLM"]


class LlamaAttention(nn.Cell):
    """Self-attention over a static KV cache."""

    def __init__(self, config: LlamaConfig, build: OperatorSet, name: str) -> None:
        super().__init__()
        q_width = config.num_attention_heads * config.head_dim
        kv_width = config.num_key_value_heads * config.head_dim
        self.q_proj = build.linear(f"{name}.q_proj", config.hidden_size, q_width, config.attention_bias)
        self.k_proj = build.linear(f"{name}.k_proj", config.hidden_size, kv_width, config.attention_bias)
        self.v_proj = build.linear(f"{name}.v_proj", config.hidden_size, kv_width, config.attention_bias)
        self.o_proj = build.linear(f"{name}.o_proj", q_width, config.hidden_size, config.attention_bias)
        self.attend = build.attention(config.num_attention_heads, config.num_key_value_heads, config.head_dim)
        self.has_scales = build.shape.kv_granularity == "per_channel"
        if self.has_scales:
            channels = (config.num_key_value_heads, config.head_dim)
            self.key_scale = empty_parameter(channels, mstype.float32)
            self.value_scale = empty_parameter(channels, mstype.float32)

    def construct(self, x, caches, rotary):  # type: ignore[no-untyped-def]
        key_scale, value_scale = None, None
        if self.has_scales:
            key_scale, value_scale = self.key_scale, self.value_scale
        result = self.attend(
            self.q_proj(x), self.k_proj(x), self.v_proj(x), caches, rotary, key_scale, value_scale
        )
        return (self.o_proj(result[0]), *result[1:])


class LlamaMLP(nn.Cell):
    """Gated feed-forward: down(silu(gate(x)) * up(x))."""

    def __init__(self, config: LlamaConfig, build: OperatorSet, name: str) -> None:
        super().__init__()
        self.gate_proj = build.linear(f"{name}.gate_proj", config.hidden_size, config.intermediate_size)
        self.up_proj = build.linear(f"{name}.up_proj", config.hidden_size, config.intermediate_size)
        self.down_proj = build.linear(f"{name}.down_proj", config.intermediate_size, config.hidden_size)
        self.gated_silu = build.gated_silu()

    def construct(self, x):  # type: ignore[no-untyped-def]
        return self.down_proj(self.gated_silu(self.gate_proj(x), self.up_proj(x)))


class LlamaDecoderLayer(nn.Cell):
    """One pre-norm block: attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: LlamaConfig, build: OperatorSet, name: str) -> None:
        super().__init__()
        self.input_layernorm = build.norm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = LlamaAttention(config, build, f"{name}.self_attn")
        self.post_attention_layernorm = build.norm(config.hidden_size, config.rms_norm_eps)
        self.mlp = LlamaMLP(config, build, f"{name}.mlp")

    def construct(self, x, caches, rotary):  # type: ignore[no-untyped-def]
        result = self.self_attn(self.input_layernorm(x), caches, rotary)
        x = ops.add(x, result[0])
        x = ops.add(x, self.mlp(self.post_attention_layernorm(x)))
        return (x, *result[1:])


class LlamaModel(nn.Cell):
    """Token ids to hidden states of each sequence's last valid token."""

    def __init__(self, config: LlamaConfig, shape: GraphShape, build: OperatorSet) -> None:
        super().__init__()
        self.embed_tokens = build.embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.CellList(
            [LlamaDecoderLayer(config, build, f"model.layers.{i}") for i in range(config.num_hidden_layers)]
        )
        self.norm = build.norm(config.hidden_size, config.rms_norm_eps)
        self.first_rows = Tensor(np.arange(shape.batch, dtype=np.int32) * shape.tokens)
        self.gather = ops.Gather()
        self.caches_per_layer = shape.caches_per_layer

    def construct(self, input_ids, input_position, batch_valid_length, caches, rotary):  # type: ignore[no-untyped-def]
        x = self.embed_tokens(input_ids)
        updated: Any = ()
        index = 0
        for layer in self.layers:
            result = layer(x, caches[index : index + self.caches_per_layer], rotary)
            x = result[0]
            updated += result[1:]
            index += self.caches_per_layer
        # Only the last valid row is needed from here on, so the norm and the lm_head see B rows instead of
        # B*T.
        last = ops.add(ops.sub(ops.sub(batch_valid_length, 1), input_position), self.first_rows)
        return self.norm(self.gather(x, last, 0)), updated


class LlamaForCausalLM(nn.Cell):
    """The graph that is exported: see design of the bundle for its signature.

    (input_ids int32 [B,T], input_position int32 [B], batch_valid_length int32 [B], then for each layer its
    key and its value cache [B,Hkv,S,D], and where int8 caches have scales per token, those of its keys and
    its values [B,Hkv,S,1]) -> (logits float32 [B,vocab], then the updated caches in the same
    order).
    """

    def __init__(self, config: LlamaConfig, shape: GraphShape, build: OperatorSet) -> None:
        super().__init__()
        self.model = LlamaModel(config, shape, build)
        self.rotary = build.rotary(config.head_dim)
        # A tied lm_head reads the embedding itself; quantized it needs a copy of its own.
        self.is_tied = config.tie_word_embeddings and "lm_head" not in shape.quantization
        if self.is_tied:
            self.head = build.tied_linear()
        else:
            self.lm_head = build.linear("lm_head", config.hidden_size, config.vocab_size)
        self.to_float32 = build.to_float32()

    def construct(self, input_ids, input_position, batch_valid_length, *caches):  # type: ignore[no-untyped-def]
        rotary = self.rotary(input_position)
        x, updated = self.model(input_ids, input_position, batch_valid_length, caches, rotary)
        logits = self.head(x, self.model.embed_tokens.weight) if self.is_tied else self.lm_head(x)
        return (self.to_float32(logits), *updated)
