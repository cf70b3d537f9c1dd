"""Operator set `cpu`: float32 arithmetic in primitives that stock MindSpore and MindSpore Lite run on a CPU.

MindSpore Lite's checked list has no in-place cache write, no fused norm or attention and no sigmoid, and no
tensor of more than four dimensions. Hence the long forms below; the engine recognizes each and runs one
kernel for it.
"""

from __future__ import annotations

import numpy as np
from mindspore import Tensor, nn, ops
from mindspore import dtype as mstype

from mindir_llm.models.graph import GraphShape, empty_parameter
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["CpuOperators"]

# Keeps a division by a row's largest magnitude finite.
_TINY = 1e-30

_FLOAT = {"float16": mstype.float16, "float32": mstype.float32}


def _as_float32(tensor, stored):  # type: ignore[no-untyped-def]
    """Cast inside a graph; a cast that changes nothing is not emitted."""
    if stored == mstype.float32:
        return tensor
    return ops.cast(tensor, mstype.float32)


class CpuOperators:
    """Cells of the `cpu` target for one graph shape; see OperatorSet for what each maps to what."""

    def __init__(self, shape: GraphShape) -> None:
        self.shape = shape
        self.dtype = _FLOAT[shape.dtype]

    def embedding(self, vocab_size: int, hidden_size: int) -> nn.Cell:
        return _Embedding(vocab_size, hidden_size, self.dtype)

    def linear(self, name: str, in_features: int, out_features: int, has_bias: bool = False) -> nn.Cell:
        quantization = self.shape.quantization.get(name)
        if quantization is None:
            return _Linear(in_features, out_features, has_bias, self.dtype)
        if quantization.activations == "per_token":
            return _TokenQuantLinear(in_features, out_features, has_bias, self.dtype)
        if quantization.activations == "per_tensor":
            return _TensorQuantLinear(in_features, out_features)
        if quantization.is_by_input(in_features):
            return _ByInputLinear(in_features, out_features, has_bias, self.dtype, quantization)
        return _Int8Linear(in_features, out_features, has_bias, self.dtype, quantization.symmetric)

    def tied_linear(self) -> nn.Cell:
        return _TiedLinear(self.dtype)

    def norm(self, size: int, eps: float) -> nn.Cell:
        return _RmsNorm(size, eps, self.dtype)

    def rotary(self, head_dim: int) -> nn.Cell:
        return _Rotary(self.shape, head_dim)

    def attention(self, heads: int, kv_heads: int, head_dim: int) -> nn.Cell:
        cell = {None: _Attention, "per_channel": _ChannelInt8Attention, "per_token": _TokenInt8Attention}
        return cell[self.shape.kv_granularity](self.shape, heads, kv_heads, head_dim)

    def gated_silu(self) -> nn.Cell:
        return _GatedSilu()

    def to_float32(self) -> nn.Cell:
        return _Identity()


class _Identity(nn.Cell):
    def construct(self, x):  # type: ignore[no-untyped-def]
        return x


class _Embedding(nn.Cell):
    def __init__(self, vocab_size: int, hidden_size: int, dtype) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.dtype = dtype
        self.weight = empty_parameter((vocab_size, hidden_size), dtype)
        self.gather = ops.Gather()

    def construct(self, ids):  # type: ignore[no-untyped-def]
        rows = self.gather(self.weight, ops.reshape(ids, (-1,)), 0)
        return _as_float32(rows, self.dtype)


class _Linear(nn.Cell):
    def __init__(self, in_features: int, out_features: int, has_bias: bool, dtype) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.dtype = dtype
        self.has_bias = has_bias
        self.weight = empty_parameter((out_features, in_features), dtype)
        if has_bias:
            self.bias = empty_parameter((out_features,), dtype)
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):  # type: ignore[no-untyped-def]
        y = self.matmul(x, _as_float32(self.weight, self.dtype))
        if self.has_bias:
            y = ops.add(y, _as_float32(self.bias, self.dtype))
        return y


class _TiedLinear(nn.Cell):
    def __init__(self, dtype) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.dtype = dtype
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x, weight):  # type: ignore[no-untyped-def]
        return self.matmul(x, _as_float32(weight, self.dtype))


class _Int8Linear(nn.Cell):
    """`weight` int8 [out, in]. `weight_scale` [out, 1] in the stored dtype, `weight_zero` int8 [out, 1]."""

    def __init__(  # type: ignore[no-untyped-def]
        self, in_features: int, out_features: int, has_bias: bool, dtype, symmetric: bool
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.has_bias = has_bias
        self.symmetric = symmetric
        self.weight = empty_parameter((out_features, in_features), mstype.int8)
        self.weight_scale = empty_parameter((out_features, 1), dtype)
        if not symmetric:
            self.weight_zero = empty_parameter((out_features, 1), mstype.int8)
        if has_bias:
            self.bias = empty_parameter((out_features,), dtype)
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):  # type: ignore[no-untyped-def]
        integers = ops.cast(self.weight, mstype.float32)
        if not self.symmetric:
            integers = ops.sub(integers, ops.cast(self.weight_zero, mstype.float32))
        y = self.matmul(x, ops.mul(integers, _as_float32(self.weight_scale, self.dtype)))
        if self.has_bias:
            y = ops.add(y, _as_float32(self.bias, self.dtype))
        return y


class _TokenQuantLinear(nn.Cell):
    """int8 activations times int8 weights: integers held in float32, which is exact below 2^24 and what every
    CPU runtime of MindIR multiplies. Each token is scaled by a 127th of its largest magnitude.

    `weight` int8 [out, in]. `weight_scale` is float32 [out] whatever dtype is stored, as on the NPU.
    """

    def __init__(self, in_features: int, out_features: int, has_bias: bool, dtype) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.dtype = dtype
        self.has_bias = has_bias
        self.weight = empty_parameter((out_features, in_features), mstype.int8)
        self.weight_scale = empty_parameter((out_features,), mstype.float32)
        if has_bias:
            self.bias = empty_parameter((out_features,), dtype)
        self.largest = ops.ReduceMax(keep_dims=True)
        self.round = ops.Round()
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):  # type: ignore[no-untyped-def]
        # A row of zeros stays one.
        largest = ops.maximum(self.largest(ops.abs(x), -1), _TINY)
        integers = self.round(ops.mul(x, ops.div(127.0, largest)))
        y = self.matmul(integers, ops.cast(self.weight, mstype.float32))
        y = ops.mul(ops.mul(y, ops.div(largest, 127.0)), self.weight_scale)
        if self.has_bias:
            y = ops.add(y, _as_float32(self.bias, self.dtype))
        return y


class _TensorQuantLinear(nn.Cell):
    """int8 activations on one calibrated grid times int8 weights, integers held in float32:

        q = clip(round(x * input_scale + input_zero), -128, 127), y = (q weight^T + bias) * weight_scale

    `input_scale`, `input_zero` float32 [1]: integers per unit, and the integer of 0. `weight` int8 [out, in].
    `weight_scale` float32 [out] has the step of the inputs in it, `bias` int32 [out] the share of the zero
    point and the layer's own bias in such steps.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.input_scale = empty_parameter((1,), mstype.float32)
        self.input_zero = empty_parameter((1,), mstype.float32)
        self.weight = empty_parameter((out_features, in_features), mstype.int8)
        self.weight_scale = empty_parameter((out_features,), mstype.float32)
        self.bias = empty_parameter((out_features,), mstype.int32)
        self.round = ops.Round()
        self.matmul = ops.MatMul(transpose_b=True)

    def construct(self, x):  # type: ignore[no-untyped-def]
        integers = self.round(ops.add(ops.mul(x, self.input_scale), self.input_zero))
        integers = ops.minimum(ops.maximum(integers, -128.0), 127.0)
        y = self.matmul(integers, ops.cast(self.weight, mstype.float32))
        return ops.mul(ops.add(y, ops.cast(self.bias, mstype.float32)), self.weight_scale)


class _ByInputLinear(nn.Cell):
    """int4 weights, and int8 weights in groups. 4 bits are unpacked with float arithmetic, because shifts and
    masks of bits are not among the few primitives that every CPU runtime of MindIR has.

    `weight` int8 [in, out], or uint8 [in, out/2]: channel 2j plus 8 in the low nibble, channel 2j+1 plus 8 in
    the high one. `weight_scale` [groups, out] in the stored dtype, `weight_zero` int8 [groups, out]. Row i of
    all of them is of input `input_order` [i], int32 [in], where there is one.
    """

    def __init__(  # type: ignore[no-untyped-def]
        self, in_features: int, out_features: int, has_bias: bool, dtype, quantization: WeightQuantization
    ) -> None:
        super().__init__()
        self.dtype = dtype
        self.has_bias = has_bias
        self.inputs, self.outputs = in_features, out_features
        self.symmetric, self.is_int4 = quantization.symmetric, quantization.bits == 4
        self.group_size, self.groups = quantization.group_size, quantization.groups(in_features)
        if self.is_int4:
            self.weight = empty_parameter((in_features, out_features // 2), mstype.uint8)
        else:
            self.weight = empty_parameter((in_features, out_features), mstype.int8)
        self.weight_scale = empty_parameter((self.groups, out_features), dtype)
        if not self.symmetric:
            self.weight_zero = empty_parameter((self.groups, out_features), mstype.int8)
        if has_bias:
            self.bias = empty_parameter((out_features,), dtype)
        self.reordered = quantization.reordered
        if self.reordered:
            self.input_order = empty_parameter((in_features,), mstype.int32)
        self.gather = ops.Gather()
        self.concat = ops.Concat(axis=-1)
        self.matmul = ops.MatMul()

    def unpack(self, both):  # type: ignore[no-untyped-def]
        """Bytes as float32 [in, out/2] -> [in, out], -8 … 7. Every step is exact: powers of two, and integers
        below 256."""
        pair = (self.inputs, self.outputs // 2, 1)
        high = ops.floor(ops.mul(both, 0.0625))
        low = ops.sub(both, ops.mul(high, 16.0))
        codes = self.concat((ops.reshape(low, pair), ops.reshape(high, pair)))
        return ops.sub(ops.reshape(codes, (self.inputs, self.outputs)), 8.0)

    def spread(self, rows):  # type: ignore[no-untyped-def]
        """float32 [groups, out] -> [in, out], or [1, out] where one group holds all inputs by definition."""
        if self.group_size == 0:
            return rows
        count = self.groups * self.group_size
        rows = ops.reshape(rows, (self.groups, 1, self.outputs))
        rows = ops.broadcast_to(rows, (self.groups, self.group_size, self.outputs))
        rows = ops.reshape(rows, (count, self.outputs))
        if count != self.inputs:
            rows = rows[: self.inputs]
        return rows

    def construct(self, x):  # type: ignore[no-untyped-def]
        if self.reordered:
            x = self.gather(x, self.input_order, 1)
        integers = ops.cast(self.weight, mstype.float32)
        if self.is_int4:
            integers = self.unpack(integers)
        if not self.symmetric:
            integers = ops.sub(integers, self.spread(ops.cast(self.weight_zero, mstype.float32)))
        scale = self.spread(_as_float32(self.weight_scale, self.dtype))
        y = self.matmul(x, ops.mul(integers, scale))
        if self.has_bias:
            y = ops.add(y, _as_float32(self.bias, self.dtype))
        return y


class _RmsNorm(nn.Cell):
    def __init__(self, size: int, eps: float, dtype) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.dtype = dtype
        self.eps = eps
        self.weight = empty_parameter((size,), dtype)
        self.mean = ops.ReduceMean(keep_dims=True)

    def construct(self, x):  # type: ignore[no-untyped-def]
        scale = ops.rsqrt(self.mean(ops.mul(x, x), -1) + self.eps)
        return ops.mul(ops.mul(x, scale), _as_float32(self.weight, self.dtype))


class _Rotary(nn.Cell):
    """Everything in a graph that depends on positions alone, computed once for all layers."""

    def __init__(self, shape: GraphShape, head_dim: int) -> None:
        super().__init__()
        self.batch, self.tokens, self.columns = shape.batch, shape.tokens, shape.max_seq_len
        self.head_dim = head_dim
        self.cos = empty_parameter((shape.rotary_rows, head_dim), mstype.float32)
        self.sin = empty_parameter((shape.rotary_rows, head_dim), mstype.float32)
        self.token_offsets = Tensor(np.arange(shape.tokens, dtype=np.int32)[None, :])
        self.column_indices = Tensor(np.arange(shape.max_seq_len, dtype=np.int32)[None, None, :])
        self.gather = ops.Gather()
        self.sum = ops.ReduceSum()

    def construct(self, input_position):  # type: ignore[no-untyped-def]
        """-> cos, sin [B,1,T,D]; written [B,1,T,S] is 1 where token t goes to row s; kept [B,1,S,1] is 1 for
        rows that no token goes to; mask [B,1,T,S] is 0 where token t may look at row s and -1e9 elsewhere."""
        positions = ops.add(ops.reshape(input_position, (self.batch, 1)), self.token_offsets)
        flat = ops.reshape(positions, (-1,))
        table_shape = (self.batch, 1, self.tokens, self.head_dim)
        cos = ops.reshape(self.gather(self.cos, flat, 0), table_shape)
        sin = ops.reshape(self.gather(self.sin, flat, 0), table_shape)
        rows = ops.reshape(positions, (self.batch, self.tokens, 1))
        one_hot = ops.cast(ops.equal(self.column_indices, rows), mstype.float32)
        kept = ops.reshape(1.0 - self.sum(one_hot, 1), (self.batch, 1, self.columns, 1))
        written = ops.reshape(one_hot, (self.batch, 1, self.tokens, self.columns))
        ahead = ops.cast(ops.greater(self.column_indices, rows), mstype.float32)
        mask = ops.reshape(ops.mul(ahead, -1e9), (self.batch, 1, self.tokens, self.columns))
        return cos, sin, written, kept, mask


class _Attention(nn.Cell):
    def __init__(self, shape: GraphShape, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.batch, self.tokens, self.rows = shape.batch, shape.tokens, shape.max_seq_len
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.half = head_dim // 2
        self.group = heads // kv_heads
        self.kv_dtype = _FLOAT.get(shape.kv_dtype, mstype.int8)
        self.scale = head_dim**-0.5
        self.concat = ops.Concat(-1)
        self.matmul = ops.BatchMatMul()
        self.matmul_nt = ops.BatchMatMul(transpose_b=True)
        self.matmul_tn = ops.BatchMatMul(transpose_a=True)

    def split_heads(self, x, heads):  # type: ignore[no-untyped-def]
        return ops.transpose(ops.reshape(x, (self.batch, self.tokens, heads, self.head_dim)), (0, 2, 1, 3))

    def rotate(self, x, cos, sin):  # type: ignore[no-untyped-def]
        first, second = x[:, :, :, : self.half], x[:, :, :, self.half :]
        return ops.add(ops.mul(x, cos), ops.mul(self.concat((ops.neg(second), first)), sin))

    def write(self, cache, new, written, kept):  # type: ignore[no-untyped-def]
        """Cache with the rows of this call replaced, [B, Hkv, S, D] in the cache's own type."""
        rows = self.matmul_tn(written, new)
        return ops.add(ops.mul(_as_float32(cache, self.kv_dtype), kept), rows)

    def repeat(self, cache):  # type: ignore[no-untyped-def]
        """[B, Hkv, S, D] -> [B, H, S, D], each KV head once per query head of its group."""
        if self.group == 1:
            return cache
        flat = ops.reshape(cache, (self.batch * self.kv_heads, 1, self.rows, self.head_dim))
        wide = ops.broadcast_to(flat, (self.batch * self.kv_heads, self.group, self.rows, self.head_dim))
        return ops.reshape(wide, (self.batch, self.heads, self.rows, self.head_dim))

    def store(self, caches, k, v, written, kept, key_scale, value_scale):  # type: ignore[no-untyped-def]
        """-> keys and values float32 [B, Hkv, S, D] that attention reads, and the updated caches."""
        keys = self.write(caches[0], k, written, kept)
        values = self.write(caches[1], v, written, kept)
        if self.kv_dtype == mstype.float32:
            return keys, values, (keys, values)
        # Attention reads the rounded cache, so that a row counts the same in this call as in later ones.
        key_cache, value_cache = ops.cast(keys, self.kv_dtype), ops.cast(values, self.kv_dtype)
        keys, values = ops.cast(key_cache, mstype.float32), ops.cast(value_cache, mstype.float32)
        return keys, values, (key_cache, value_cache)

    def construct(self, q, k, v, caches, rotary, key_scale, value_scale):  # type: ignore[no-untyped-def]
        cos, sin, written, kept, mask = rotary
        q = self.rotate(self.split_heads(q, self.heads), cos, sin)
        k = self.rotate(self.split_heads(k, self.kv_heads), cos, sin)
        v = self.split_heads(v, self.kv_heads)
        written = ops.broadcast_to(written, (self.batch, self.kv_heads, self.tokens, self.rows))
        keys, values, caches = self.store(caches, k, v, written, kept, key_scale, value_scale)
        scores = ops.add(ops.mul(self.matmul_nt(q, self.repeat(keys)), self.scale), mask)
        context = self.matmul(ops.softmax(scores, -1), self.repeat(values))
        context = ops.reshape(ops.transpose(context, (0, 2, 1, 3)), (-1, self.heads * self.head_dim))
        return (context, *caches)


class _ChannelInt8Attention(_Attention):
    """int8 caches, one scale for each channel of a head."""

    def __init__(self, shape: GraphShape, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(shape, heads, kv_heads, head_dim)
        self.round = ops.Round()

    def update(self, cache, new, scale, written, kept):  # type: ignore[no-untyped-def]
        """-> what the cache holds as float32, and the updated cache."""
        scale = ops.reshape(scale, (1, self.kv_heads, 1, self.head_dim))
        # Times the reciprocal, and down to -128, because QuantV2 of the ascend set does it so.
        integers = self.round(ops.mul(new, ops.div(1.0, scale)))
        integers = ops.minimum(ops.maximum(integers, -128.0), 127.0)
        cache = ops.cast(self.write(cache, integers, written, kept), mstype.int8)
        return ops.mul(ops.cast(cache, mstype.float32), scale), cache

    def store(self, caches, k, v, written, kept, key_scale, value_scale):  # type: ignore[no-untyped-def]
        keys, key_cache = self.update(caches[0], k, key_scale, written, kept)
        values, value_cache = self.update(caches[1], v, value_scale, written, kept)
        return keys, values, (key_cache, value_cache)


class _TokenInt8Attention(_Attention):
    """int8 caches, one scale for each row of a head, a 127th of its largest magnitude."""

    def __init__(self, shape: GraphShape, heads: int, kv_heads: int, head_dim: int) -> None:
        super().__init__(shape, heads, kv_heads, head_dim)
        self.largest = ops.ReduceMax(keep_dims=True)
        self.round = ops.Round()

    def update(self, cache, scales, new, written, kept):  # type: ignore[no-untyped-def]
        """-> what the cache holds as float32, the updated cache, its updated scales."""
        # A row of zeros stays one.
        scale = ops.div(ops.maximum(self.largest(ops.abs(new), -1), _TINY), 127.0)
        integers = self.round(ops.div(new, scale))
        cache = ops.cast(self.write(cache, integers, written, kept), mstype.int8)
        scales = ops.add(ops.mul(scales, kept), self.matmul_tn(written, scale))
        return ops.mul(ops.cast(cache, mstype.float32), scales), cache, scales

    def store(self, caches, k, v, written, kept, key_scale, value_scale):  # type: ignore[no-untyped-def]
        keys, key_cache, key_scales = self.update(caches[0], caches[2], k, written, kept)
        values, value_cache, value_scales = self.update(caches[1], caches[3], v, written, kept)
        return keys, values, (key_cache, value_cache, key_scales, value_scales)


class _GatedSilu(nn.Cell):
    """sigmoid(g) is the first item of softmax over (g, 0)."""

    def __init__(self) -> None:
        super().__init__()
        self.zero = Tensor(np.zeros((1, 1), np.float32))
        self.concat = ops.Concat(-1)

    def construct(self, gate, up):  # type: ignore[no-untyped-def]
        rows, width = gate.shape
        column = ops.reshape(gate, (-1, 1))
        # Depending on the input keeps MindSpore from storing rows * width zeros as a constant in the graph.
        zero = ops.depend(self.zero, gate)
        pairs = self.concat((column, ops.broadcast_to(zero, (rows * width, 1))))
        sigmoid = ops.reshape(ops.softmax(pairs, -1)[:, 0:1], (rows, width))
        return ops.mul(ops.mul(gate, sigmoid), up)
