"""Operator set `ascend`: float16 activations and the fused primitives of an NPU. Traces anywhere, runs on
Ascend."""

from __future__ import annotations

from typing import Any

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype
from mindspore.ops import auto_generate as gen
from mindspore.ops.operations.nn_ops import IncreFlashAttention, PromptFlashAttention

from mindir_llm.models.graph import GraphShape, empty_parameter
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["AscendOperators"]

_NO_LIMIT = 2147483647
_HALF_ROTATION_GATHERED = 2  # ApplyRotaryPosEmb cos_format whose meaning does not depend on the backend
_ROWS_AXIS = -2


class AscendOperators:
    """Cells of the `ascend` target for one graph shape; see OperatorSet for what each maps to what."""

    def __init__(self, shape: GraphShape) -> None:
        if shape.dtype != "float16" or shape.kv_dtype not in ("float16", "int8"):
            raise ValueError("the ascend operator set works in float16, with caches of float16 or int8, only")
        self.shape = shape

    def embedding(self, vocab_size: int, hidden_size: int) -> nn.Cell:
        return _Embedding(vocab_size, hidden_size)

    def linear(self, name: str, in_features: int, out_features: int, has_bias: bool = False) -> nn.Cell:
        quantization = self.shape.quantization.get(name)
        if quantization is None:
            return _Linear(in_features, out_features, has_bias)
        if quantization.activations == "per_token":
            return _TokenQuantLinear(in_features, out_features, has_bias)
        if quantization.activations == "per_tensor":
            return _TensorQuantLinear(in_features, out_features)
        if quantization.is_by_input(in_features):
            return _ByInputLinear(in_features, out_features, has_bias, quantization)
        return _Int8Linear(in_features, out_features, has_bias, quantization.symmetric)

    def tied_linear(self) -> nn.Cell:
        return _TiedLinear()

    def norm(self, size: int, eps: float) -> nn.Cell:
        return _RmsNorm(size, eps)

    def rotary(self, head_dim: int) -> nn.Cell:
        return _Rotary(self.shape, head_dim)

    def attention(self, heads: int, kv_heads: int, head_dim: int) -> nn.Cell:
        cell = {None: _Attention, "per_channel": _ChannelInt8Attention, "per_token": _TokenInt8Attention}
        return cell[self.shape.kv_granularity](self.shape, heads, kv_heads, head_dim)

    def gated_silu(self) -> nn.Cell:
        return _GatedSilu()

    def to_float32(self) -> nn.Cell:
        return _ToFloat32()


class _ToFloat32(nn.Cell):
    def construct(self, x):  # type: ignore[no-untyped-def]
        return ops.cast(x, mstype.float32)


class _Embedding(nn.Cell):
    def __init__(self, vocab_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight = empty_parameter((vocab_size, hidden_size), mstype.float16)
        self.gather = ops.Gather()

    def construct(self, ids):  # type: ignore[no-untyped-def]
        return self.gather(self.weight, ops.reshape(ids, (-1,)), 0)


class _Linear(nn.Cell):
    def __init__(self, in_features: int, out_features: int, has_bias: bool) -> None:
        super().__init__()
        self.has_bias = has_bias
        self.weight = empty_parameter((out_features, in_features), mstype.float16)
        if has_bias:
            self.bias = empty_parameter((out_features,), mstype.float16)
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):  # type: ignore[no-untyped-def]
        y = self.matmul(x, self.weight)
        if self.has_bias:
            y = ops.add(y, self.bias)
        return y


class _TiedLinear(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x, weight):  # type: ignore[no-untyped-def]
        return self.matmul(x, weight)


class _Int8Linear(nn.Cell):
    """`weight` int8 [out, in]. `weight_scale` float16 [out]; `weight_zero` float16 [out] is what the operator
    adds to the integers: minus the zero points."""

    def __init__(self, in_features: int, out_features: int, has_bias: bool, symmetric: bool) -> None:
        super().__init__()
        self.has_bias = has_bias
        self.symmetric = symmetric
        self.weight = empty_parameter((out_features, in_features), mstype.int8)
        self.weight_scale = empty_parameter((out_features,), mstype.float16)
        if not symmetric:
            self.weight_zero = empty_parameter((out_features,), mstype.float16)
        if has_bias:
            self.bias = empty_parameter((out_features,), mstype.float16)
        self.matmul = gen.WeightQuantBatchMatmul(False, True, 0)

    def construct(self, x):  # type: ignore[no-untyped-def]
        bias = None
        if self.has_bias:
            bias = self.bias
        zero = None
        if not self.symmetric:
            zero = self.weight_zero
        return self.matmul(x, self.weight, self.weight_scale, zero, None, None, bias)


class _TokenQuantLinear(nn.Cell):
    """int8 activations, quantized per token, times int8 weights. `weight_scale` float32 [out]."""

    def __init__(self, in_features: int, out_features: int, has_bias: bool) -> None:
        super().__init__()
        self.has_bias = has_bias
        self.weight = empty_parameter((out_features, in_features), mstype.int8)
        self.weight_scale = empty_parameter((out_features,), mstype.float32)
        if has_bias:
            self.bias = empty_parameter((out_features,), mstype.float16)
        self.quantize = gen.DynamicQuantExt()
        self.matmul = gen.QuantBatchMatmul(False, True, mstype.float16)

    def construct(self, x):  # type: ignore[no-untyped-def]
        integers, scale = self.quantize(x, None)
        y = self.matmul(integers, self.weight, self.weight_scale, None, None, scale)
        if self.has_bias:
            # The product takes biases of int32 and bfloat16 only.
            y = ops.add(y, self.bias)
        return y


class _TensorQuantLinear(nn.Cell):
    """int8 activations on one calibrated grid times int8 weights; the parameters are those of the cpu cell of
    this name, `input_scale` and `input_zero` in float16.

    A float offset makes every backend multiply by the scale: round(x * scale + offset).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.input_scale = empty_parameter((1,), mstype.float16)
        self.input_zero = empty_parameter((1,), mstype.float16)
        self.weight = empty_parameter((out_features, in_features), mstype.int8)
        self.weight_scale = empty_parameter((out_features,), mstype.float32)
        self.bias = empty_parameter((out_features,), mstype.int32)
        self.quantize = gen.QuantV2()
        self.matmul = gen.QuantBatchMatmul(False, True, mstype.float16)

    def construct(self, x):  # type: ignore[no-untyped-def]
        integers = self.quantize(x, self.input_scale, self.input_zero, False, "ROUND", mstype.int8)
        return self.matmul(integers, self.weight, self.weight_scale, None, self.bias, None)


class _ByInputLinear(nn.Cell):
    """int4 weights, and int8 weights in groups. `weight` is not transposed, qint4x2 [in, out/2] or int8 [in,
    out]: with groups that is the only order of the scales on which all backends agree. `weight_scale` and
    `weight_zero`, which is added as in _Int8Linear, float16 [groups, out], or [out] where one group holds all
    inputs. Row i of them is of input `input_order` [i], int32 [in], where there is one."""

    def __init__(
        self, in_features: int, out_features: int, has_bias: bool, quantization: WeightQuantization
    ) -> None:
        super().__init__()
        self.has_bias = has_bias
        self.symmetric = quantization.symmetric
        # The NPU's kernel wants groups smaller than the input; one group is the same as no groups.
        groups = quantization.groups(in_features)
        group_size = quantization.group_size if groups > 1 else 0
        scales = (groups, out_features) if group_size else (out_features,)
        if quantization.bits == 4:
            self.weight = empty_parameter((in_features, out_features // 2), mstype.qint4x2)
        else:
            self.weight = empty_parameter((in_features, out_features), mstype.int8)
        self.weight_scale = empty_parameter(scales, mstype.float16)
        if not self.symmetric:
            self.weight_zero = empty_parameter(scales, mstype.float16)
        if has_bias:
            self.bias = empty_parameter((out_features,), mstype.float16)
        self.reordered = quantization.reordered
        if self.reordered:
            self.input_order = empty_parameter((in_features,), mstype.int32)
        self.gather = ops.Gather()
        self.matmul = gen.WeightQuantBatchMatmul(False, False, group_size)

    def construct(self, x):  # type: ignore[no-untyped-def]
        if self.reordered:
            x = self.gather(x, self.input_order, 1)
        bias = None
        if self.has_bias:
            bias = self.bias
        zero = None
        if not self.symmetric:
            zero = self.weight_zero
        return self.matmul(x, self.weight, self.weight_scale, zero, None, None, bias)


class _RmsNorm(nn.Cell):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = empty_parameter((size,), mstype.float16)
        self.norm = ops.RmsNorm(eps)

    def construct(self, x):  # type: ignore[no-untyped-def]
        return self.norm(x, self.weight)[0]


class _Rotary(nn.Cell):
    """Everything in a graph that depends on positions alone, computed once for all layers."""

    def __init__(self, shape: GraphShape, head_dim: int) -> None:
        super().__init__()
        self.batch, self.tokens = shape.batch, shape.tokens
        self.cos = empty_parameter((shape.rotary_rows, head_dim), mstype.float32)
        self.sin = empty_parameter((shape.rotary_rows, head_dim), mstype.float32)
        self.token_offsets = Tensor(np.arange(shape.tokens, dtype=np.int32)[None, :])
        self.column_indices = Tensor(np.arange(shape.max_seq_len, dtype=np.int32)[None, None, None, :])
        self.gather = ops.Gather()

    def construct(self, input_position):  # type: ignore[no-untyped-def]
        """-> cos, sin float32 [B*T, D]; first row int32 [B]; flat positions int32 [B*T]; mask bool [B,1,T,S],
        true where token t may not look at row s."""
        positions = ops.add(ops.reshape(input_position, (self.batch, 1)), self.token_offsets)
        flat = ops.reshape(positions, (-1,))
        cos = self.gather(self.cos, flat, 0)
        sin = self.gather(self.sin, flat, 0)
        rows = ops.reshape(positions, (self.batch, 1, self.tokens, 1))
        mask = ops.greater(self.column_indices, rows)
        return cos, sin, input_position, flat, mask


class _Attention(nn.Cell):
    def __init__(self, shape: GraphShape, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.batch, self.tokens, self.rows = shape.batch, shape.tokens, shape.max_seq_len
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.rope = gen.ApplyRotaryPosEmb(_HALF_ROTATION_GATHERED)
        self.scatter = gen.KVCacheScatterUpdate()
        self.is_decode = shape.tokens == 1
        self.kv_granularity = shape.kv_granularity
        self.cast, self.mul, self.concat = ops.Cast(), ops.Mul(), ops.Concat(0)
        settings = {
            "num_heads": heads,
            "num_key_value_heads": kv_heads,
            "input_layout": "BNSD",
            "scale_value": head_dim**-0.5,
        }
        if self.is_decode:
            self.flash = IncreFlashAttention(**settings)
        else:
            # Bounds of the band are lifted explicitly: the default of 0 for next_tokens would hide cached
            # columns.
            self.flash = PromptFlashAttention(
                **settings, pre_tokens=_NO_LIMIT, next_tokens=_NO_LIMIT, sparse_mode=0
            )

    def split_heads(self, x, heads):  # type: ignore[no-untyped-def]
        return ops.transpose(ops.reshape(x, (self.batch, self.tokens, heads, self.head_dim)), (0, 2, 1, 3))

    def rows_of(self, x, scale):  # type: ignore[no-untyped-def]
        """Keys or values [B*T, Hkv*D] -> what goes into the cache [B, Hkv, T, D], and the scales of these
        rows [B, Hkv, T, 1], or None."""
        return self.split_heads(x, self.kv_heads), None

    # The caches are written and read here and handed to no function in between: MindSpore would copy them.
    def construct(self, q, k, v, caches, rotary, key_scale, value_scale):  # type: ignore[no-untyped-def]
        cos, sin, first_row, positions, mask = rotary
        q, k = self.rope(q, k, cos, sin, positions)
        q = self.split_heads(q, self.heads)
        key_rows, key_row_scale = self.rows_of(k, key_scale)
        value_rows, value_row_scale = self.rows_of(v, value_scale)
        keys = self.scatter(caches[0], first_row, key_rows, _ROWS_AXIS, "update")
        values = self.scatter(caches[1], first_row, value_rows, _ROWS_AXIS, "update")
        written: Any = (keys, values)
        if self.kv_granularity == "per_token":
            # The NPU's attention takes scales of tokens only if all heads share them. So here, too, it reads
            # float16.
            key_scale = self.scatter(caches[2], first_row, key_row_scale, _ROWS_AXIS, "update")
            value_scale = self.scatter(caches[3], first_row, value_row_scale, _ROWS_AXIS, "update")
            written = (keys, values, key_scale, value_scale)
        antiquant = None
        if self.kv_granularity is not None:
            if self.kv_granularity == "per_channel":
                channels = (1, self.kv_heads, 1, self.head_dim)
                key_scale, value_scale = ops.reshape(key_scale, channels), ops.reshape(value_scale, channels)
            if self.kv_granularity == "per_channel" and self.is_decode:
                antiquant = self.cast(self.concat((key_scale, value_scale)), mstype.float16)
            else:
                # PromptFlashAttention takes no scales of caches.
                keys = self.mul(self.cast(keys, mstype.float16), self.cast(key_scale, mstype.float16))
                values = self.mul(self.cast(values, mstype.float16), self.cast(value_scale, mstype.float16))
        if self.is_decode:
            context = self.flash(
                q, (keys,), (values,), mask,
                None, None, None, None, None, None, None, antiquant, None, None, None,
            )  # fmt: skip
        else:
            context = self.flash(q, keys, values, mask, None, None, None, None, None, None, None, None)
        context = ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (-1, self.heads * self.head_dim))
        return (context, *written)


class _ChannelInt8Attention(_Attention):
    """int8 caches, one scale for each channel of a head."""

    def __init__(self, shape: GraphShape, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(shape, heads, kv_heads, head_dim)
        self.channels = kv_heads * head_dim
        self.zero = Tensor(np.zeros(1, np.float32))
        self.quantize = gen.QuantV2()

    def rows_of(self, x, scale):  # type: ignore[no-untyped-def]
        # A float offset, here zeros, makes the scale a factor on every backend. All three have one type.
        factor = ops.div(1.0, ops.reshape(scale, (self.channels,)))
        # Depending on the input keeps MindSpore from storing the zeros as a constant in the graph.
        offset = ops.broadcast_to(ops.depend(self.zero, x), (self.channels,))
        x = self.quantize(ops.cast(x, mstype.float32), factor, offset, False, "ROUND", mstype.int8)
        return self.split_heads(x, self.kv_heads), None


class _TokenInt8Attention(_Attention):
    """int8 caches, one scale for each row of a head."""

    def __init__(self, shape: GraphShape, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(shape, heads, kv_heads, head_dim)
        self.quantize = gen.DynamicQuantExt()

    def rows_of(self, x, scale):  # type: ignore[no-untyped-def]
        integers, scale = self.quantize(self.split_heads(x, self.kv_heads), None)
        return integers, ops.reshape(scale, (self.batch, self.kv_heads, self.tokens, 1))


class _GatedSilu(nn.Cell):
    def construct(self, gate, up):  # type: ignore[no-untyped-def]
        return ops.swiglu(ops.cat((gate, up), -1), -1)
