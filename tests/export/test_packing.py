"""Two 4-bit integers in a byte: every value survives, at the place that the format gives it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mindir_llm.export.quantize.packing import pack_int4

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
