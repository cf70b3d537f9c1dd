"""int8 activations and caches: half a step of error, exact arithmetic of the operators, calibrated ranges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mindir_llm.export.quantize.activation import (
    ActivationGrid,
    ValueHistogram,
    dequantize_tokens,
    quantize_tokens,
    static_grid,
)
from mindir_llm.export.quantize.kv import (
    dequantize_channels,
    kv_channel_maxima,
    kv_channel_scales,
    quantize_channels,
)

tensors = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=4, min_side=1, max_side=6),
    elements=st.floats(-1e4, 1e4, width=32),
)


@settings(max_examples=200, deadline=None)
@given(tensors, st.booleans())
def test_static_grid_covers_its_range(values: NDArray[Any], symmetric: bool) -> None:
    grid = static_grid(float(values.min()), float(values.max()), symmetric)
    assert grid.scale > 0 and grid.scale == float(np.float32(grid.scale))
    assert grid.zero == 0 if symmetric else -128 <= grid.zero <= 127
    integers = grid.quantize(values)
    assert integers.dtype == np.int8 and integers.shape == values.shape
    # An asymmetric grid moves by up to half a step to put 0 on an integer; of floats, some ulps.
    bound = grid.scale * (0.5 if symmetric else 1) + np.abs(values).max() * 1e-5 + 1e-40
    assert np.all(np.abs(grid.dequantize(integers) - values) <= bound)
    assert not grid.dequantize(grid.quantize(np.zeros(2, np.float32))).any()


def test_static_grid_arithmetic() -> None:
    grid = static_grid(-63.5, 10.0)
    assert grid == ActivationGrid(0.5, 0)
    values = np.array([-70, -63.5, 0.25, 0.75, 1.25, 63.5, 64, 100], np.float32)
    # Halves go to the even integer; saturation is at -128, as the operators have it.
    np.testing.assert_array_equal(grid.quantize(values), [-128, -127, 0, 2, 2, 127, 127, 127])
    grid = static_grid(-1.0, 50.0, symmetric=False)
    assert grid.scale == float(np.float32(0.2)) and grid.zero == -123
    ends = np.array([-1, 0, 50, 60], np.float32)
    np.testing.assert_array_equal(grid.quantize(ends), [-128, -123, 127, 127])
    assert static_grid(0, 0) == ActivationGrid(1.0, 0)
    assert static_grid(5, 255, symmetric=False) == ActivationGrid(1.0, -128)


def test_ranges_that_are_none() -> None:
    for low, high in ((1.0, -1.0), (np.nan, 1.0), (-np.inf, 1.0)):
        with pytest.raises(ValueError, match="are no range"):
            static_grid(low, high)
    with pytest.raises(ValueError, match="does not fit float32"):
        static_grid(-1e300, 1e300)


@settings(max_examples=200, deadline=None)
@given(tensors)
def test_tokens_have_their_own_scales(values: NDArray[Any]) -> None:
    integers, scale = quantize_tokens(values)
    assert integers.dtype == np.int8 and integers.shape == values.shape
    assert scale.dtype == np.float32 and scale.shape == values.shape[:-1]
    assert integers.min() >= -127
    np.testing.assert_array_equal(scale, np.abs(values).max(axis=-1) / np.float32(127))
    bound = scale[..., None] * 0.501 + 127 * np.finfo(np.float32).smallest_subnormal
    assert np.all(np.abs(dequantize_tokens(integers, scale) - values) <= bound)
    largest = np.abs(integers.astype(np.int64)).max(axis=-1)
    assert np.all(largest[scale > 1e-30] == 127)


def test_token_of_zeros() -> None:
    integers, scale = quantize_tokens(np.array([[0, 0], [1, -2]], np.float32))
    np.testing.assert_array_equal(integers, [[0, 0], [64, -127]])
    np.testing.assert_array_equal(scale, [0, np.float32(2) / np.float32(127)])


def test_values_that_are_not_finite_are_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        values = np.ones((2, 3), np.float32)
        values[1, 1] = bad
        with pytest.raises(ValueError, match="activations hold a value that is not finite"):
            quantize_tokens(values)
        with pytest.raises(ValueError, match="activations hold a value that is not finite"):
            ValueHistogram().add(values)
        with pytest.raises(ValueError, match="largest holds a value that is not finite"):
            kv_channel_maxima(values[:, None])


@settings(max_examples=100, deadline=None)
@given(
    st.lists(tensors, min_size=1, max_size=4),
    st.sampled_from([50.0, 90.0, 99.0, 99.9, 100.0]),
    st.booleans(),
)
def test_histogram_holds_the_part_asked_for(
    batches: list[NDArray[Any]], percent: float, symmetric: bool
) -> None:
    histogram = ValueHistogram(1024)
    for batch in batches:
        histogram.add(batch)
    values = np.concatenate([batch.reshape(-1) for batch in batches]).astype(np.float64)
    low, high = histogram.range(percent, symmetric)
    assert low <= 0 <= high
    assert low == -high or not symmetric
    assert max(high, -low) <= np.abs(values).max()
    slack = np.abs(values).max() * 1e-6
    inside = np.mean((values >= low - slack) & (values <= high + slack))
    assert inside >= percent / 100 - 1e-12
    if percent == 100 and not symmetric:
        assert (low, high) == (min(values.min(), 0), max(values.max(), 0))


def test_histogram_finds_percentiles() -> None:
    random = np.random.default_rng(0)
    values = random.standard_normal((100, 10000)).astype(np.float32)
    values[::7] *= 0.5
    values[3, 3] = 1000
    histogram = ValueHistogram()
    for row in values:
        histogram.add(row)
    width = 2 * 1000 * 2 / (1 << 16)
    for percent in (99.0, 99.9, 99.99):
        assert histogram.range(percent)[1] == pytest.approx(np.percentile(np.abs(values), percent), abs=width)
        low, high = histogram.range(percent, symmetric=False)
        tail = (100 - percent) / 2
        assert low == pytest.approx(np.percentile(values, tail), abs=width)
        assert high == pytest.approx(np.percentile(values, 100 - tail), abs=width)
    assert histogram.range() == (-1000, 1000)


def test_histogram_of_nothing_and_of_zeros() -> None:
    histogram = ValueHistogram()
    assert histogram.range() == (0, 0)
    assert histogram.range(99.0) == (0, 0)
    histogram.add(np.zeros((0, 3), np.float32))
    histogram.add(np.zeros(5, np.float32))
    assert histogram.range(99.0, symmetric=False) == (0, 0)
    for percent in (0, 101):
        with pytest.raises(ValueError, match=f"percent: {percent}"):
            histogram.range(percent)
    with pytest.raises(ValueError, match="bins: 6"):
        ValueHistogram(6)


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=5),
        elements=st.floats(-1e3, 1e3, width=32),
    )
)
def test_cache_by_channel(cache: NDArray[Any]) -> None:
    largest = kv_channel_maxima(cache)
    np.testing.assert_array_equal(largest, np.abs(cache).reshape(-1, *cache.shape[-2:]).max(axis=0))
    scale = kv_channel_scales(largest)
    assert scale.dtype == np.float32 and np.all(scale > 0)
    integers = quantize_channels(cache, scale)
    assert integers.dtype == np.int8 and integers.min() >= -127
    bound = scale * 0.501 + 127 * np.finfo(np.float32).smallest_subnormal
    assert np.all(np.abs(dequantize_channels(integers, scale) - cache) <= bound)
    # Twice of what calibration has seen saturates; with a margin it does not.
    doubled = quantize_channels(2 * cache, scale)
    assert np.all(np.abs(doubled.astype(np.int64)) <= 127)
    wide = kv_channel_scales(largest, margin=2.0)
    kept = dequantize_channels(quantize_channels(2 * cache, wide), wide)
    assert np.all(np.abs(kept - 2 * cache) <= 2 * bound)


def test_cache_scales_that_are_none() -> None:
    with pytest.raises(ValueError, match="largest is negative"):
        kv_channel_scales(np.array([[-1.0]]))
    with pytest.raises(ValueError, match="margin: 0"):
        kv_channel_scales(np.ones((1, 1)), margin=0)
    with pytest.raises(ValueError, match="does not fit float32"):
        kv_channel_scales(np.full((1, 1), 1e300))
    np.testing.assert_array_equal(kv_channel_scales(np.zeros((1, 2))), 1)
