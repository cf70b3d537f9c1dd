"""Stored linear layers: every integer, scale and zero point survives, at the place its format gives it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scheme_bundle import blocks_of

from mindir_llm.export.quantize.activation import static_grid
from mindir_llm.export.quantize.packing import LinearPacker, pack_int4
from mindir_llm.export.quantize.scheme import QuantizedWeight, WeightScheme, fit_grid, round_to_grid
from mindir_llm.models.quantization import WeightQuantization

integers = st.tuples(st.integers(1, 5), st.integers(1, 9)).flatmap(
    lambda size: hnp.arrays(np.int8, (2 * size[0], size[1]), elements=st.integers(-8, 7))
)


def unpacked(packed: NDArray[np.uint8], biased: bool) -> NDArray[np.float64]:
    """[K, N] from [K, N/2], one nibble after another and without bit tricks."""
    inputs, pairs = packed.shape
    values = np.empty((inputs, 2 * pairs))
    for k in range(inputs):
        for n in range(2 * pairs):
            byte = int(packed[k, n // 2])
            nibble = byte // 16 if n % 2 else byte % 16
            values[k, n] = nibble - 8 if biased else (nibble - 16 if nibble >= 8 else nibble)
    return values


@settings(max_examples=200, deadline=None)
@given(integers, st.booleans())
def test_every_integer_has_its_nibble(quantized: NDArray[np.int8], biased: bool) -> None:
    packed = pack_int4(quantized, biased)
    channels, inputs = quantized.shape
    assert packed.dtype == np.uint8
    assert packed.shape == (inputs, channels // 2)
    np.testing.assert_array_equal(unpacked(packed, biased), quantized.T)


def test_bytes_of_an_example() -> None:
    """Channels 0 and 1 of one input share a byte, channel 0 in its low half."""
    quantized = np.array([[-8, 1], [7, -1]], np.int8)
    np.testing.assert_array_equal(pack_int4(quantized, biased=True), [[0xF0], [0x79]])
    np.testing.assert_array_equal(pack_int4(quantized, biased=False), [[0x78], [0xF1]])


@settings(max_examples=100, deadline=None)
@given(integers)
def test_float_arithmetic_of_the_cpu_graph_unpacks_exactly(quantized: NDArray[np.int8]) -> None:
    both = pack_int4(quantized, biased=True).astype(np.float32)
    high = np.floor(both * np.float32(0.0625))
    low = both - high * np.float32(16)
    inputs, pairs = both.shape
    values = np.stack([low, high], axis=-1).reshape(inputs, 2 * pairs) - np.float32(8)
    np.testing.assert_array_equal(values, quantized.T)


def test_an_odd_number_of_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="3 output channels"):
        pack_int4(np.zeros((3, 4), np.int8), biased=True)


CONFIGURATIONS = [
    WeightQuantization(8),
    WeightQuantization(8, symmetric=False),
    WeightQuantization(8, 32),
    WeightQuantization(8, 32, symmetric=False),
    WeightQuantization(4, symmetric=False),
    WeightQuantization(4, 32),
    WeightQuantization(4, 32, symmetric=False),
    WeightQuantization(8, activations="per_token"),
]


def quantized(how: WeightQuantization, shape: tuple[int, int], dtype: str, seed: int) -> QuantizedWeight:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    scheme = WeightScheme(how.bits, how.group_size, how.symmetric, dtype)
    return round_to_grid(values, scheme, *fit_grid(values, scheme))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(CONFIGURATIONS),
    st.sampled_from(["cpu", "ascend"]),
    st.integers(1, 9).map(lambda pairs: 2 * pairs),
    st.integers(1, 70),
    st.integers(1, 5).map(lambda pairs: 2 * pairs),
    st.integers(0, 1000),
)
def test_stored_layers_are_the_quantized_ones(
    how: WeightQuantization, target: str, outputs: int, inputs: int, rows: int, seed: int
) -> None:
    """Element by element, by the cells' description of what they hold."""
    dtype = "float16" if how.activations == "float" else "float32"
    weight = quantized(how, (outputs, inputs), dtype, seed)
    bias = np.linspace(-1, 1, outputs, dtype=np.float32)
    packer = LinearPacker(how, target, (outputs, inputs), "float16", bias)
    blocks = list(packer.weight(blocks_of(weight, rows)))
    stored, others = np.concatenate(blocks), packer.others()
    if not how.is_by_input(inputs):
        assert len(blocks) == -(-outputs // rows)  # streamed
    dense = np.empty((outputs, inputs))
    for n in range(outputs):
        for k in range(inputs):
            if how.bits == 4:
                nibble = int(stored[k, n // 2]) >> (4 if n % 2 else 0) & 15
                integer = nibble - 8 if target == "cpu" else (nibble + 8) % 16 - 8
            else:
                integer = int(stored[k, n] if how.is_by_input(inputs) else stored[n, k])
            group = k // how.group_size if how.group_size else 0

            def one(name: str, n: int = n, group: int = group) -> float:
                values = others[name]
                if values.ndim == 1:
                    return float(values[n])
                return float(values[group, n] if how.is_by_input(inputs) else values[n, group])

            zero = 0.0
            if not how.symmetric:
                zero = one("weight_zero") * (1 if target == "cpu" else -1)
            dense[n, k] = (integer - zero) * one("weight_scale")
    np.testing.assert_array_equal(dense, weight.dequantize(np.float64))
    np.testing.assert_array_equal(others["bias"], bias.astype(np.float16))
    assert set(others) == {"weight_scale", "bias"} | (set() if how.symmetric else {"weight_zero"})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(["cpu", "ascend"]),
    st.booleans(),
    st.floats(-50, 0),
    st.floats(0.01, 50),
    st.booleans(),
    st.integers(0, 1000),
)
def test_a_calibrated_layer_computes_what_its_grid_means(
    target: str, symmetric: bool, low: float, high: float, has_bias: bool, seed: int
) -> None:
    how = WeightQuantization(8, activations="per_tensor")
    weight = quantized(how, (6, 33), "float32", seed)
    grid = static_grid(low, high, symmetric)
    rng = np.random.default_rng(seed)
    bias = rng.standard_normal(6).astype(np.float32) if has_bias else None
    packer = LinearPacker(how, target, (6, 33), "float16", bias, grid)
    stored, others = np.concatenate(list(packer.weight(blocks_of(weight, 4)))), packer.others()
    assert {name: str(values.dtype) for name, values in others.items()} == {
        "input_scale": "float32" if target == "cpu" else "float16",
        "input_zero": "float32" if target == "cpu" else "float16",
        "weight_scale": "float32",
        "bias": "int32",
    }
    x = rng.uniform(1.2 * low, 1.2 * high, (5, 33))
    factor, zero = float(others["input_scale"][0]), float(others["input_zero"][0])
    integers = np.clip(np.rint(x * factor + zero), -128, 127)
    y = (integers @ stored.T.astype(np.float64) + others["bias"]) * others["weight_scale"]
    # The same from values: inputs on the grid times weights as they are, half a step of the bias off.
    assert factor == pytest.approx(1 / grid.scale, rel=2**-11)
    values = (integers - grid.zero) / factor
    expected = values @ weight.dequantize(np.float64).T + (0 if bias is None else bias)
    steps = others["weight_scale"].astype(np.float64)
    assert np.all(np.abs(y - expected) <= (0.51 if has_bias else 0) * steps + 1e-6 * np.abs(expected) + 1e-9)


def test_the_packer_names_what_does_not_fit() -> None:
    how = WeightQuantization(8)
    weight = quantized(how, (4, 6), "float16", 0)
    with pytest.raises(ValueError, match="does not fit a layer"):
        list(LinearPacker(how, "cpu", (4, 7), "float16").weight([weight]))
    with pytest.raises(ValueError, match="does not fit a layer"):
        list(LinearPacker(WeightQuantization(4), "cpu", (4, 6), "float16").weight([weight]))
    with pytest.raises(ValueError, match="4 rows of 8"):
        list(LinearPacker(how, "cpu", (8, 6), "float16").weight([weight]))
    with pytest.raises(ValueError, match="more rows than 2"):
        list(LinearPacker(how, "cpu", (2, 6), "float16").weight([weight]))
    with pytest.raises(ValueError, match="scales in float32 do not fit float16"):
        list(LinearPacker(how, "cpu", (4, 6), "float16").weight([quantized(how, (4, 6), "float32", 0)]))
    with pytest.raises(ValueError, match="bias has shape"):
        LinearPacker(how, "cpu", (4, 6), "float16", np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="a grid belongs"):
        LinearPacker(how, "cpu", (4, 6), "float16", grid=static_grid(0, 1))
    with pytest.raises(ValueError, match="a grid belongs"):
        LinearPacker(WeightQuantization(8, activations="per_tensor"), "cpu", (4, 6), "float16")
    with pytest.raises(ValueError, match="the weight comes first"):
        LinearPacker(how, "cpu", (4, 6), "float16").others()
    static = WeightQuantization(8, activations="per_tensor")
    packer = LinearPacker(
        static, "cpu", (4, 6), "float32", np.array([0, 1e9, 0, 0], np.float32), static_grid(0, 1)
    )
    list(packer.weight([quantized(static, (4, 6), "float32", 0)]))
    with pytest.raises(ValueError, match="row 1: the bias is"):
        packer.others()
