"""The NPU op set's primitives against numpy: MindSpore exports them on a CPU but cannot run them there.

The references are float64 and written from the documented semantics. Inputs and outputs are float16, so a
result may be off by one rounding of float16 (2^-11 relative) plus what float32 arithmetic loses: less.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ascend_cells
import cells
import mindspore as ms
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mindspore import Tensor
from mindspore.ops import auto_generate
from mindspore.ops.operations import nn_ops

from mindir_llm.runtime import Graph

Array = np.ndarray[Any, np.dtype[Any]]
KERNELS = Path(__file__).resolve().parents[2] / "runtime" / "engine" / "kernels" / "ascend"
EXAMPLES = 12 if os.environ.get("HYPOTHESIS_PROFILE") == "ci" else 4
HALF = 2.0**-11

drawn = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # the explain phase traces every line, MindSpore's parser included
    suppress_health_check=list(HealthCheck),
)
_numbers = itertools.count()
_tested: set[str] = set()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    ms.set_context(mode=ms.GRAPH_MODE)
    if ms.get_context("device_target") != "CPU":  # refused once something ran
        ms.set_device("CPU")
    return tmp_path_factory.mktemp("graphs")


def run(net: ms.nn.Cell, arrays: Sequence[Array], folder: Path, primitive: str) -> list[Array]:
    """Export with MindSpore, run in the engine."""
    path = folder / f"graph{next(_numbers)}.mindir"
    ms.export(net, *[Tensor(x) for x in arrays], file_name=str(path), file_format="MINDIR")
    with Graph(path, threads=2) as graph:
        assert primitive in graph.describe()["operators"]
        _tested.add(primitive)
        before = [x.copy() for x in arrays]
        results = list(graph.run(list(arrays)).values())
        for x, copy in zip(arrays, before, strict=True):
            np.testing.assert_array_equal(x, copy, err_msg="an input was written to")
    return results


def close(actual: Array, expected: Array, floor: float = 1e-6) -> None:
    """One float16 rounding of each value, plus `floor` of the largest one for sums that cancel."""
    assert actual.shape == expected.shape
    top = float(np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(
        actual.astype(np.float64), expected, rtol=1.01 * HALF, atol=floor * top + 2.0**-24
    )


def normal(seed: int, *shape: int, scale: float = 1.0) -> Array:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float16)


def whole(seed: int, low: int, high: int, *shape: int) -> Array:
    return np.random.default_rng(seed).integers(low, high, shape, dtype=np.int8)


seeds = st.integers(0, 2**32 - 1)
small = st.integers(1, 5)


# ---- norm and activation ----


@drawn
@given(seed=seeds, rows=small, width=st.integers(1, 40), eps=st.sampled_from([1e-6, 1e-5, 1e-2]))
def test_rms_norm(folder: Path, seed: int, rows: int, width: int, eps: float) -> None:
    x, gamma = normal(seed, 2, rows, width), normal(seed + 1, width)
    y, rstd = run(cells.Call(auto_generate.RmsNorm(eps)), [x, gamma], folder, "RmsNorm")
    x64 = x.astype(np.float64)
    expected = 1 / np.sqrt((x64**2).mean(-1, keepdims=True) + np.float64(np.float32(eps)))
    assert rstd.dtype == np.float32
    np.testing.assert_allclose(rstd, expected, rtol=1e-6)
    close(y, x64 * expected * gamma)


@drawn
@given(seed=seeds, rows=small, width=st.integers(1, 40))
def test_add_rms_norm(folder: Path, seed: int, rows: int, width: int) -> None:
    a, b, gamma = normal(seed, rows, width), normal(seed + 1, rows, width), normal(seed + 2, width)
    y, _, total = run(cells.Call(_AddRmsNorm()), [a, b, gamma], folder, "AddRmsNorm")
    expected = (a.astype(np.float32) + b.astype(np.float32)).astype(np.float16)
    np.testing.assert_array_equal(total, expected)
    x64 = expected.astype(np.float64)
    close(y, x64 / np.sqrt((x64**2).mean(-1, keepdims=True) + np.float64(np.float32(1e-5))) * gamma)


def _AddRmsNorm() -> Callable[..., Any]:
    operator = auto_generate.AddRmsNorm()
    return lambda x1, x2, gamma: operator(x1, x2, gamma, 1e-5)


@drawn
@given(seed=seeds, rows=small, half=st.integers(1, 20), axis=st.sampled_from([-1, 0, 1]))
def test_swiglu(folder: Path, seed: int, rows: int, half: int, axis: int) -> None:
    x = normal(seed, 2 * rows, 2 * half, scale=3)
    (y,) = run(cells.Call(auto_generate.Swiglu(), axis), [x], folder, "Swiglu")
    gate, up = np.split(x.astype(np.float64), 2, axis)
    close(y, gate / (1 + np.exp(-gate)) * up)


# ---- matmuls ----


def pack4(weight: Array) -> Array:
    """int8 values -8 … 7, two to a byte along the last axis, low nibble first."""
    nibbles = weight.astype(np.uint8) & 15
    return (nibbles[..., 0::2] | nibbles[..., 1::2] << 4).view(np.int8)


@drawn
@given(
    seed=seeds,
    rows=small,
    k=st.integers(1, 24),
    n=st.integers(1, 12),
    transposed=st.booleans(),
    is_int4=st.booleans(),
    granularity=st.sampled_from(["tensor", "channel", "group"]),
    is_full=st.booleans(),
)
def test_weight_quant_batch_matmul(
    folder: Path,
    seed: int,
    rows: int,
    k: int,
    n: int,
    transposed: bool,
    is_int4: bool,
    granularity: str,
    is_full: bool,
) -> None:
    k, n = 2 * k, 2 * n
    group = 0
    if granularity == "group":
        transposed, group = False, max(1, k // 3)
    weight = whole(seed, *((-8, 8) if is_int4 else (-128, 128)), k, n)
    groups = -(-k // group) if group else 1
    shape = {"tensor": (1,), "channel": (n,), "group": (groups, n)}[granularity]
    scale, offset = normal(seed + 1, *shape, scale=0.02), normal(seed + 2, *shape, scale=4)
    x, bias = normal(seed + 3, rows, k), normal(seed + 4, n)
    stored = weight.T.copy() if transposed else weight
    stored = pack4(stored) if is_int4 else stored
    operator = auto_generate.WeightQuantBatchMatmul(False, transposed, group)
    cell = (ascend_cells.WeightQuant if is_full else ascend_cells.WeightQuantPlain)(operator, stored, is_int4)
    arrays = [x, scale, offset, bias] if is_full else [x, scale]
    (y,) = run(cell, arrays, folder, "WeightQuantBatchMatmul")

    def spread(values: Array) -> Array:
        wide = values.astype(np.float64)
        return np.repeat(wide, group, 0)[:k] if group else wide

    dense = (weight + (spread(offset) if is_full else 0.0)) * spread(scale)
    close(y, x.astype(np.float64) @ dense + (bias if is_full else 0.0))


@drawn
@given(
    seed=seeds,
    m=small,
    k=st.integers(1, 40),
    n=st.integers(1, 12),
    t1=st.booleans(),
    t2=st.booleans(),
    is_per_token=st.booleans(),
)
def test_quant_batch_matmul(
    folder: Path, seed: int, m: int, k: int, n: int, t1: bool, t2: bool, is_per_token: bool
) -> None:
    a, b = whole(seed, -128, 128, m, k), whole(seed + 1, -128, 128, k, n)
    rng = np.random.default_rng(seed + 2)
    scale = (rng.random(n) * 1e-3).astype(np.float32)
    bias = rng.integers(-1000, 1000, n, dtype=np.int32)
    per_token = (rng.random(m) + 0.5).astype(np.float32)
    operator = auto_generate.QuantBatchMatmul(t1, t2, ms.float16)
    arrays = [a.T.copy() if t1 else a, b.T.copy() if t2 else b, scale, bias]
    if is_per_token:
        (y,) = run(
            ascend_cells.QuantMatmulPerToken(operator), [*arrays, per_token], folder, "QuantBatchMatmul"
        )
    else:
        (y,) = run(ascend_cells.QuantMatmul(operator), arrays, folder, "QuantBatchMatmul")
    expected = (a.astype(np.int64) @ b.astype(np.int64) + bias) * scale.astype(np.float64)
    assert y.dtype == np.float16
    close(y, expected * per_token[:, None] if is_per_token else expected)


# ---- quantization of activations ----


@drawn
@given(seed=seeds, rows=small, width=st.integers(1, 30), is_int8_offset=st.booleans())
def test_quant_v2(folder: Path, seed: int, rows: int, width: int, is_int8_offset: bool) -> None:
    x = normal(seed, rows, width, scale=4)
    scale = (np.random.default_rng(seed + 1).random(width) + 0.5).astype(np.float16)
    offset = whole(seed + 2, -20, 20, width)
    arrays = [x, scale, offset if is_int8_offset else offset.astype(np.float16)]
    (y,) = run(ascend_cells.Quantize(auto_generate.QuantV2()), arrays, folder, "QuantV2")
    x32, s32 = x.astype(np.float32), scale.astype(np.float32)
    expected = (
        np.rint(x32 / s32) + offset if is_int8_offset else np.rint(x32 * s32 + offset.astype(np.float32))
    )
    np.testing.assert_array_equal(y, np.clip(expected, -128, 127).astype(np.int8))


@drawn
@given(seed=seeds, rows=small, width=st.integers(1, 30), has_zero_row=st.booleans())
def test_dynamic_quant(folder: Path, seed: int, rows: int, width: int, has_zero_row: bool) -> None:
    x = normal(seed, rows, width)
    if has_zero_row:
        x[0] = 0
    y, scale = run(cells.Call(auto_generate.DynamicQuantExt(), None), [x], folder, "DynamicQuantExt")
    expected = np.abs(x.astype(np.float32)).max(-1) / np.float32(127)
    np.testing.assert_array_equal(scale, expected)
    with np.errstate(invalid="ignore"):
        exact = np.nan_to_num(x.astype(np.float64) / expected.astype(np.float64)[:, None])
    # A quotient that float32 moves onto a tie may round the other way.
    assert (np.abs(y - exact) <= 0.5 + 1e-4).all()
    if has_zero_row:
        assert not y[0].any()


# ---- rotary ----


def rotated(x: Array, cos: Array, sin: Array, is_interleaved: bool) -> Array:
    x, cos, sin = (t.astype(np.float64) for t in (x, cos, sin))
    turned = np.empty_like(x)
    if is_interleaved:
        turned[..., 0::2], turned[..., 1::2] = -x[..., 1::2], x[..., 0::2]
    else:
        half = x.shape[-1] // 2
        turned[..., :half], turned[..., half:] = -x[..., half:], x[..., :half]
    return x * cos + turned * sin


@drawn
@given(
    seed=seeds,
    tokens=small,
    heads=st.sampled_from([(1, 1), (4, 2), (3, 3)]),
    half=st.integers(1, 8),
    cos_format=st.integers(0, 3),
)
def test_apply_rotary_pos_emb(
    folder: Path, seed: int, tokens: int, heads: tuple[int, int], half: int, cos_format: int
) -> None:
    width = 2 * half
    q, k = (normal(seed + i, tokens, h * width) for i, h in enumerate(heads))
    rows = 9 if cos_format < 2 else tokens
    cos, sin = normal(seed + 3, rows, width), normal(seed + 4, rows, width)
    positions = np.random.default_rng(seed).integers(0, rows, tokens).astype(np.int32)
    operator = auto_generate.ApplyRotaryPosEmb(cos_format)
    results = run(cells.Call(operator), [q, k, cos, sin, positions], folder, "ApplyRotaryPosEmb")
    chosen = positions if cos_format < 2 else np.arange(tokens)
    for x, y, h in zip((q, k), results, heads, strict=True):
        shaped = x.reshape(tokens, h, width)
        expected = rotated(shaped, cos[chosen][:, None], sin[chosen][:, None], cos_format % 2 == 1)
        close(y, expected.reshape(x.shape), floor=HALF)


@drawn
@given(seed=seeds, batch=small, heads=small, tokens=small, half=st.integers(1, 8), mode=st.integers(0, 1))
def test_rotary_position_embedding(
    folder: Path, seed: int, batch: int, heads: int, tokens: int, half: int, mode: int
) -> None:
    x = normal(seed, batch, heads, tokens, 2 * half)
    cos, sin = normal(seed + 1, 1, 1, tokens, 2 * half), normal(seed + 2, 1, 1, tokens, 2 * half)
    operator = auto_generate.RotaryPositionEmbedding()
    (y,) = run(cells.Call(operator, mode), [x, cos, sin], folder, "RotaryPositionEmbedding")
    close(y, rotated(x, cos, sin, mode == 1), floor=HALF)


# ---- cache ----


@drawn
@given(
    seed=seeds, batch=small, heads=small, rows=st.integers(1, 12), width=small, axis=st.sampled_from([-2, -1])
)
def test_kv_cache_scatter_update(
    folder: Path, seed: int, batch: int, heads: int, rows: int, width: int, axis: int
) -> None:
    rng = np.random.default_rng(seed)
    tokens = int(rng.integers(1, rows + 1))
    shape = [batch, heads, rows, width] if axis == -2 else [batch, heads, width, rows]
    new_shape = list(shape)
    new_shape[axis] = tokens
    cache, new = normal(seed, *shape), normal(seed + 1, *new_shape)
    start = rng.integers(0, rows - tokens + 1, batch)
    cell = ascend_cells.WriteCache(auto_generate.KVCacheScatterUpdate(), axis)
    (y,) = run(cell, [cache, start, new], folder, "KVCacheScatterUpdate")
    expected = cache.copy()
    for b, first in enumerate(start):
        where = slice(first, first + tokens)
        if axis == -2:
            expected[b, :, where] = new[b]
        else:
            expected[b, :, :, where] = new[b]
    np.testing.assert_array_equal(y, expected)


# ---- attention ----


def attention(q: Array, k: Array, v: Array, scale: float, hidden: Array) -> Array:
    """q, k, v [B, H, T, D], H a multiple of the key heads; hidden [B, T, S]: this key must not be seen."""
    group = q.shape[1] // k.shape[1]
    q, k, v = (
        q.astype(np.float64),
        k.repeat(group, 1).astype(np.float64),
        v.repeat(group, 1).astype(np.float64),
    )
    scores = np.where(hidden[:, None], -np.inf, scale * (q @ k.swapaxes(-1, -2)))
    top = scores.max(-1, keepdims=True)
    p = np.exp(scores - np.where(np.isfinite(top), top, 0))
    total = p.sum(-1, keepdims=True)
    return np.where(total > 0, p / np.where(total > 0, total, 1) @ v, 0)


def to_bsh(x: Array) -> Array:
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


@drawn
@given(
    seed=seeds,
    batch=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2)]),
    tokens=small,
    rows=st.integers(5, 12),
    width=st.sampled_from([8, 16]),
    layout=st.sampled_from(["BNSD", "BSH"]),
    sparse_mode=st.sampled_from([0, 1, 2, 3]),
)
def test_prompt_flash_attention(
    folder: Path,
    seed: int,
    batch: int,
    heads: tuple[int, int],
    tokens: int,
    rows: int,
    width: int,
    layout: str,
    sparse_mode: int,
) -> None:
    q = normal(seed, batch, heads[0], tokens, width)
    k, v = normal(seed + 1, batch, heads[1], rows, width), normal(seed + 2, batch, heads[1], rows, width)
    scale = width**-0.5
    operator = nn_ops.PromptFlashAttention(
        num_heads=heads[0],
        num_key_value_heads=heads[1],
        input_layout=layout,
        scale_value=scale,
        pre_tokens=2147483647,
        next_tokens=2147483647,
        sparse_mode=sparse_mode,
    )
    arrays = [q, k, v] if layout == "BNSD" else [to_bsh(q), to_bsh(k), to_bsh(v)]
    columns, lines = np.arange(rows), np.arange(tokens)[:, None]
    if sparse_mode < 2:
        hidden = np.random.default_rng(seed).random((batch, tokens, rows)) < 0.4
        hidden[0, 0] = True  # a row that sees nothing is zero
        cell = ascend_cells.PromptAttention(operator)
        (y,) = run(cell, [*arrays, hidden[:, None]], folder, "PromptFlashAttention")
    else:
        shift = rows - tokens if sparse_mode == 3 else 0
        hidden = np.broadcast_to(columns > lines + shift, (batch, tokens, rows))
        cell = ascend_cells.PromptAttentionUnmasked(operator)
        (y,) = run(cell, arrays, folder, "PromptFlashAttention")
    expected = attention(q, k, v, float(np.float32(scale)), hidden)
    close(y, expected if layout == "BNSD" else to_bsh(expected), floor=1e-5)


@drawn
@given(
    seed=seeds,
    batch=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (4, 2), (6, 2)]),
    rows=st.integers(1, 12),
    width=st.sampled_from([8, 16]),
    layout=st.sampled_from(["BNSD", "BSH"]),
)
def test_incre_flash_attention(
    folder: Path, seed: int, batch: int, heads: tuple[int, int], rows: int, width: int, layout: str
) -> None:
    q = normal(seed, batch, heads[0], 1, width)
    k, v = normal(seed + 1, batch, heads[1], rows, width), normal(seed + 2, batch, heads[1], rows, width)
    hidden = np.random.default_rng(seed).random((batch, 1, rows)) < 0.4
    operator = nn_ops.IncreFlashAttention(
        num_heads=heads[0], num_key_value_heads=heads[1], input_layout=layout, scale_value=0.25
    )
    arrays = [q, k, v] if layout == "BNSD" else [to_bsh(q), to_bsh(k), to_bsh(v)]
    cell = ascend_cells.IncrementalAttention(operator)
    (y,) = run(cell, [*arrays, hidden[:, None]], folder, "IncreFlashAttention")
    expected = attention(q, k, v, 0.25, hidden)
    close(y, expected if layout == "BNSD" else to_bsh(expected), floor=1e-5)


@drawn
@given(
    seed=seeds,
    batch=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (6, 2)]),
    rows=st.integers(1, 12),
    layout=st.sampled_from(["BNSD", "BSH"]),
)
def test_incre_flash_attention_over_int8(
    folder: Path, seed: int, batch: int, heads: tuple[int, int], rows: int, layout: str
) -> None:
    width = 8
    rng = np.random.default_rng(seed)
    q = normal(seed, batch, heads[0], 1, width).astype(np.float16)
    integers = rng.integers(-128, 128, (2, batch, heads[1], rows, width), dtype=np.int8)
    scale = rng.uniform(0.005, 0.03, (2, heads[1], 1, width)).astype(np.float16)
    hidden = rng.random((batch, 1, rows)) < 0.4
    operator = nn_ops.IncreFlashAttention(
        num_heads=heads[0], num_key_value_heads=heads[1], input_layout=layout, scale_value=0.25
    )
    arrays = [q, *integers] if layout == "BNSD" else [to_bsh(q), *map(to_bsh, integers)]
    given_scale = scale if layout == "BNSD" else scale.reshape(2, -1)
    cell = ascend_cells.IncrementalInt8Attention(operator)
    (y,) = run(cell, [*arrays, hidden[:, None], given_scale], folder, "IncreFlashAttention")
    k, v = (integers[i].astype(np.float32) * scale[i].astype(np.float32) for i in range(2))
    expected = attention(q.astype(np.float32), k, v, 0.25, hidden)
    close(y, (expected if layout == "BNSD" else to_bsh(expected)).astype(np.float16))


def test_every_ascend_primitive_of_the_engine_is_tested() -> None:
    """Reads the operator tables in the sources of kernels/ascend; runs last in this file."""
    names = set()
    for source in KERNELS.glob("*.cpp"):
        names |= set(re.findall(r'\{"([A-Z]\w*)", infer', source.read_text(encoding="utf-8")))
    assert "RmsNorm" in names
    assert names == _tested
