"""Interpret a graph of the `ascend` operator set in numpy, for want of an NPU.

Written from the vendor's description of each primitive, not from our cells. Arithmetic is float64, rounded to
float16 wherever a primitive hands on a float16 result.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from mindir_reader import constant, operator, parameter, read_model

Inputs = list[Any]


def load_ascend_graph(path: Path) -> Callable[[Inputs], Inputs]:
    """A function from the graph's inputs in order to its outputs in order."""
    model = read_model(path)
    graph = model.graph
    fixed = {tensor.name: parameter(path.parent, tensor) for tensor in graph.parameter}

    def run(inputs: Inputs) -> Inputs:
        values: dict[str, Any] = dict(fixed)
        for info, value in zip(graph.input, inputs, strict=True):
            assert tuple(info.tensor[0].dims) == value.shape, info.name
            values[info.name] = value.copy()
        for node in graph.node:
            kind = operator(node)
            if kind == "Constant":
                values[node.name] = constant(node)
            else:
                values[node.name] = _OPERATORS[kind](*[values[name] for name in node.input])
        return list(values[graph.output[0].name])

    return run


def _half(x: Any) -> Any:
    return x.astype(np.float16)


def _wide(x: Any) -> Any:
    return x.astype(np.float64)


def _matmul(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> Any:
    a, b = _wide(a), _wide(b)
    return _half((a.T if transpose_a else a) @ (b.T if transpose_b else b))


def _int4_integers(raw: Any) -> Any:
    """qint4x2 bytes [K, N/2] -> float64 [K, N]."""
    rows, pairs = raw.shape
    w = np.stack([raw & 15, raw >> 4], -1).reshape(rows, 2 * pairs).astype(np.int8)
    return _wide(np.where(w > 7, w - 16, w))


def int4_weight(raw: Any, scale: Any, group: int) -> Any:
    """qint4x2 bytes [K, N/2] and scales [groups, N], or [N] without groups -> float64 [K, N]."""
    w = _int4_integers(raw)
    assert scale.shape == ((-(-len(w) // group), w.shape[1]) if group else (w.shape[1],))
    return w * (np.repeat(_wide(scale), group, 0)[: len(w)] if group else _wide(scale))


def _weight_quant_matmul(x: Any, w: Any, scale: Any, *rest: Any) -> Any:
    offset, quant_scale, quant_offset, bias, transpose_x, transpose_w, group = rest
    assert quant_scale is None and quant_offset is None
    assert x.dtype == scale.dtype == np.float16 and transpose_x == 0
    if offset is not None:
        assert offset.dtype == np.float16 and offset.shape == scale.shape
    if w.dtype == np.int8 and not group:
        assert (transpose_w, scale.ndim) == (1, 1)
        integers = _wide(w).T
    else:
        assert transpose_w == 0
        integers = _wide(w) if w.dtype == np.int8 else _int4_integers(w)
    groups = -(-len(integers) // group) if group else None
    assert scale.shape == ((groups, integers.shape[1]) if group else (integers.shape[1],))

    def spread(values: Any) -> Any:
        return np.repeat(_wide(values), group, 0)[: len(integers)] if group else _wide(values)

    y = _wide(x) @ ((integers + (0 if offset is None else spread(offset))) * spread(scale))
    if bias is not None:
        assert bias.dtype == np.float16
        y = y + _wide(bias)
    return _half(y)


def _dynamic_quant(x: Any, smooth: Any) -> Any:
    assert smooth is None and x.dtype == np.float16
    wide = _wide(x)
    scale = np.abs(wide).max(-1) / 127
    return np.rint(wide / scale[..., None]).astype(np.int8), scale.astype(np.float32)


def _quant(x: Any, scale: Any, offset: Any, sqrt_mode: bool, rounding: int, dtype: int) -> Any:
    assert x.dtype == scale.dtype == offset.dtype in (np.float16, np.float32)
    assert scale.shape == offset.shape in ((1,), x.shape[-1:])
    assert not sqrt_mode and rounding == 0 and dtype == 32
    return np.clip(np.rint(_wide(x) * _wide(scale) + _wide(offset)), -128, 127).astype(np.int8)


def _quant_matmul(x: Any, w: Any, scale: Any, offset: Any, bias: Any, per_token: Any, *rest: Any) -> Any:
    transpose_x, transpose_w, _dtype = rest
    assert offset is None and not transpose_x and transpose_w
    assert x.dtype == w.dtype == np.int8 and scale.dtype == np.float32
    sums = x.astype(np.int64) @ w.astype(np.int64).T
    if bias is not None:
        assert bias.dtype == np.int32 and bias.shape == (len(w),)
        sums = sums + bias
    if per_token is None:
        return _half(sums * _wide(scale))
    assert per_token.dtype == np.float32
    return _half(sums * _wide(scale) * _wide(per_token)[:, None])


def _rms_norm(x: Any, gamma: Any, eps: float) -> Any:
    rstd = 1 / np.sqrt((_wide(x) ** 2).mean(-1, keepdims=True) + eps)
    return _half(_wide(x) * rstd * _wide(gamma)), rstd.astype(np.float32)


def _rotate(x: Any, cos: Any, sin: Any) -> Any:
    tokens, dim = cos.shape
    y = _wide(x).reshape(tokens, -1, dim)
    turned = np.concatenate([-y[..., dim // 2 :], y[..., : dim // 2]], -1)
    return _half(y * cos[:, None] + turned * sin[:, None]).reshape(x.shape)


def _rotary(q: Any, k: Any, cos: Any, sin: Any, _positions: Any, cos_format: int) -> Any:
    assert cos_format == 2 and cos.dtype == np.float32
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def _cache_update(cache: Any, indices: Any, updates: Any, axis: int, reduce: int, _state: Any) -> Any:
    assert axis == -2 and reduce == 3 and cache.dtype == updates.dtype
    rows = updates.shape[2]
    for b, start in enumerate(indices):
        assert 0 <= start <= cache.shape[2] - rows, "a write past the cache's end is undefined"
        cache[b, :, start : start + rows] = updates[b]
    return cache


def _attention(q: Any, k: Any, v: Any, mask: Any, heads: int, kv_heads: int, scale: float) -> Any:
    assert q.shape[1] == heads and k.shape[1] == v.shape[1] == kv_heads and mask.dtype == bool
    assert q.dtype == k.dtype == v.dtype == np.float16
    k, v = (np.repeat(_wide(t), heads // kv_heads, axis=1) for t in (k, v))
    scores = scale * (_wide(q) @ k.swapaxes(-1, -2))
    scores = np.where(mask, -np.inf, scores)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return _half(p / p.sum(-1, keepdims=True) @ v)


def _prompt_attention(q: Any, k: Any, v: Any, mask: Any, *rest: Any) -> Any:
    assert rest[:8] == (None,) * 8
    heads, scale, pre, following, layout, kv_heads, sparse, _inner = rest[8:]
    assert layout == 1 and sparse == 0 and pre == following == 2147483647
    return _attention(q, k, v, mask, heads, kv_heads, scale)


def _step_attention(q: Any, k: Any, v: Any, mask: Any, *rest: Any) -> Any:
    assert rest[:7] == (None,) * 7 and rest[8:11] == (None,) * 3 and q.shape[2] == 1
    heads, layout, scale, kv_heads, block_size, _inner = rest[11:]
    assert layout == 1 and block_size == 0
    k, v, antiquant = k[0], v[0], rest[7]
    if antiquant is not None:
        assert antiquant.dtype == np.float16 and antiquant.shape == (2, kv_heads, 1, k.shape[3])
        assert k.dtype == v.dtype == np.int8
        k, v = (_half(_wide(t) * _wide(s)) for t, s in ((k, antiquant[0]), (v, antiquant[1])))
    return _attention(q, k, v, mask, heads, kv_heads, scale)


def _swiglu(x: Any, axis: int) -> Any:
    gate, up = np.split(_wide(x), 2, axis)
    return _half(gate / (1 + np.exp(-gate)) * up)


def _cast(x: Any, dtype: int) -> Any:
    return x.astype({42: np.float16, 43: np.float32}[dtype])


def _arithmetic(f: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """In float64, rounded to the operands' type; a Python number has the type of the other one."""

    def run(a: Any, b: Any) -> Any:
        dtype = next(x.dtype for x in (a, b) if isinstance(x, np.ndarray))
        assert all(x.dtype == dtype for x in (a, b) if isinstance(x, np.ndarray))
        return f(np.float64(a), np.float64(b)).astype(dtype)

    return run


_OPERATORS: dict[str, Callable[..., Any]] = {
    "Add": lambda a, b: a + b,
    "ApplyRotaryPosEmb": _rotary,
    "BroadcastTo": lambda x, shape: np.broadcast_to(x, shape),
    "Cast": _cast,
    "Concat": lambda parts, axis: np.concatenate(parts, axis),
    "DynamicQuantExt": _dynamic_quant,
    "Div": _arithmetic(np.divide),
    "Depend": lambda value, _state: value,
    "Gather": lambda table, ids, axis, _batch: np.take(table, ids, axis),
    "Greater": lambda a, b: a > b,
    "IncreFlashAttention": _step_attention,
    "KVCacheScatterUpdate": _cache_update,
    "Load": lambda value, _state: value,
    "MakeTuple": lambda *items: items,
    "MatMul": _matmul,
    "Mul": _arithmetic(np.multiply),
    "PromptFlashAttention": _prompt_attention,
    "QuantBatchMatmul": _quant_matmul,
    "QuantV2": _quant,
    "Reshape": lambda x, shape: x.reshape(shape),
    "RmsNorm": _rms_norm,
    "Sub": lambda a, b: a - b,
    "Swiglu": _swiglu,
    "Transpose": lambda x, axes: x.transpose(axes),
    "TupleGetItem": lambda items, index: items[index],
    "UpdateState": lambda *_inputs: None,
    "WeightQuantBatchMatmul": _weight_quant_matmul,
}
