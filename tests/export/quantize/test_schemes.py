"""Every scheme of weights: integers, scales and zero points against the reference, and their limits."""

from __future__ import annotations

from typing import Any

import naive_quantizers as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mindir_llm.export.quantize.rtn import quantize_groups, quantize_rows, round_to_nearest
from mindir_llm.export.quantize.scheme import QuantizedWeight, WeightScheme

schemes = st.builds(
    WeightScheme,
    bits=st.sampled_from([4, 8]),
    group_size=st.sampled_from([0, 1, 3, 4, 32]),
    symmetric=st.booleans(),
    scale_dtype=st.sampled_from(["float16", "float32", "float64"]),
)


def matrices(dtype: Any) -> st.SearchStrategy[NDArray[Any]]:
    shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
    return hnp.arrays(dtype, shapes, elements=st.floats(-1e4, 1e4, width=32))


@settings(max_examples=300, deadline=None)
@given(st.one_of(matrices(np.float32), matrices(np.float64)), schemes)
def test_error_is_at_most_half_a_step(weight: NDArray[Any], scheme: WeightScheme) -> None:
    quantized = round_to_nearest(weight, scheme)
    rows, columns = weight.shape
    size = scheme.group_size or columns
    assert quantized.integers.dtype == np.int8 and quantized.integers.shape == weight.shape
    assert quantized.scale.dtype == np.dtype(scheme.scale_dtype)
    assert quantized.scale.shape == (rows, -(-columns // size))
    assert np.all(quantized.scale > 0)
    assert quantized.integers.min() >= scheme.low and quantized.integers.max() <= scheme.high
    values = quantized.dequantize(np.float64)
    kept = np.finfo(scheme.scale_dtype)
    for row in range(rows):
        for group in range(quantized.scale.shape[1]):
            part = slice(group * size, (group + 1) * size)
            step = float(quantized.scale[row, group])
            # A scale that is stored a little too small (or vanishes) makes the ends saturate by as much; a
            # zero point between integers moves the range by up to half a step.
            steps = 0.5 if scheme.symmetric else 1.0
            lost = float(np.ptp(np.append(weight[row, part], 0))) * (kept.eps + 1e-6)
            lost += 255 * float(kept.smallest_subnormal)
            assert np.all(np.abs(values[row, part] - weight[row, part]) <= step * steps + lost)


@settings(max_examples=200, deadline=None)
@given(
    matrices(np.float64),
    st.sampled_from([4, 8]),
    st.sampled_from([0, 2, 3, 32]),
    st.booleans(),
)
def test_against_reference(weight: NDArray[Any], bits: int, group_size: int, symmetric: bool) -> None:
    scheme = WeightScheme(bits, group_size, symmetric, "float64")
    quantized = round_to_nearest(weight, scheme)
    integers, values = naive.round_to_nearest(weight, scheme)
    largest = np.abs(weight).max()
    np.testing.assert_allclose(quantized.dequantize(np.float64), values, rtol=1e-12, atol=1e-12 * largest)
    np.testing.assert_array_equal(quantized.integers, integers)


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("symmetric", [True, False])
def test_last_group_is_short(size: int, bits: int, symmetric: bool) -> None:
    weight = np.random.default_rng(0).standard_normal((3, 200))
    scheme = WeightScheme(bits, size, symmetric, "float64")
    quantized = round_to_nearest(weight, scheme)
    assert quantized.scale.shape == (3, -(-200 // size))
    np.testing.assert_array_equal(quantized.integers, naive.round_to_nearest(weight, scheme)[0])


@settings(max_examples=100, deadline=None)
@given(matrices(np.float32), st.sampled_from([0, 2, 3]), st.sampled_from(["float16", "float32"]))
def test_is_what_weights_are_exported_with(weight: NDArray[Any], group_size: int, dtype: str) -> None:
    integers, scale = quantize_groups(weight, group_size, dtype)
    quantized = round_to_nearest(weight, WeightScheme(4, group_size, scale_dtype=dtype))
    np.testing.assert_array_equal(quantized.integers, integers)
    np.testing.assert_array_equal(quantized.scale, scale)
    integers, scale = quantize_rows(weight, dtype)
    quantized = round_to_nearest(weight, WeightScheme(8, scale_dtype=dtype))
    np.testing.assert_array_equal(quantized.integers, integers)
    np.testing.assert_array_equal(quantized.scale, scale)


@settings(max_examples=100, deadline=None)
@given(matrices(np.float64), schemes)
def test_zeros_stay_zeros(weight: NDArray[Any], scheme: WeightScheme) -> None:
    weight[0] = 0
    weight[:, 0] = 0
    values = round_to_nearest(weight, scheme).dequantize()
    assert not values[0].any() and not values[:, 0].any()


def test_asymmetric_range_is_used_whole() -> None:
    weight = np.array([[0.0, 15.0, 3.0], [-4.0, 11.0, 0.0], [-15.0, -1.0, 0.0]])
    quantized = round_to_nearest(weight, WeightScheme(4, symmetric=False))
    np.testing.assert_array_equal(quantized.integers, [[-8, 7, -5], [-8, 7, -4], [-8, 6, 7]])
    np.testing.assert_array_equal(quantized.zero, [[-8], [-4], [7]])
    np.testing.assert_array_equal(quantized.dequantize(), weight)


def test_clip_narrows_the_range() -> None:
    weight = np.array([[7.0, 1.0, 3.5, 1.0]])
    quantized = round_to_nearest(weight, WeightScheme(4, 2), np.array([[0.5, 1.0]]))
    np.testing.assert_array_equal(quantized.scale, [[0.5, 0.5]])
    np.testing.assert_array_equal(quantized.integers, [[7, 2, 7, 2]])
    for clip in (0, 1.5, np.nan, np.array([[0.5, -1.0]])):
        with pytest.raises(ValueError, match="clip must be above 0"):
            round_to_nearest(weight, WeightScheme(4, 2), clip)
    with pytest.raises(ValueError, match=r"clip has shape \(1, 4\), must be \(1, 2\)"):
        round_to_nearest(weight, WeightScheme(4, 2), np.ones((1, 4)))


def test_ranges_near_the_end_of_float32() -> None:
    weight = np.array([[-3e38, 3e38]], np.float32)
    values = round_to_nearest(weight, WeightScheme(8, symmetric=False)).dequantize()
    np.testing.assert_allclose(values, weight, rtol=1.01 / 255)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float, symmetric: bool) -> None:
    weight = np.ones((3, 5), np.float32)
    weight[1, 4] = bad
    with pytest.raises(ValueError, match=r"weight holds a value that is not finite, at \[1, 4\]"):
        round_to_nearest(weight, WeightScheme(4, 2, symmetric))


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match=r"weight has shape \(3,\), must be \(any, any\)"):
        round_to_nearest(np.ones(3), WeightScheme(4))
    with pytest.raises(ValueError, match="weight is int64, must be float32 or float64"):
        round_to_nearest(np.ones((2, 2), np.int64), WeightScheme(4))
    with pytest.raises(ValueError, match="row 1: scale does not fit float16"):
        round_to_nearest(np.array([[1.0], [1e8]]), WeightScheme(8, symmetric=False, scale_dtype="float16"))


def test_schemes_that_are_not() -> None:
    for arguments in ((3,), (4, -1), (4, 0, True, "int8")):
        with pytest.raises(ValueError, match="must"):
            WeightScheme(*arguments)


def test_parts_that_do_not_fit() -> None:
    integers, scale = np.zeros((2, 4), np.int8), np.ones((2, 1), np.float32)
    with pytest.raises(ValueError, match=r"scale has shape \(2, 1\), must be \(2, 2\)"):
        QuantizedWeight(WeightScheme(4, 2), integers, scale)
    with pytest.raises(ValueError, match="zero points belong"):
        QuantizedWeight(WeightScheme(4, symmetric=False), integers, scale)
    with pytest.raises(ValueError, match="zero points belong"):
        QuantizedWeight(WeightScheme(4), integers, scale, np.zeros((2, 1), np.int8))
    one = QuantizedWeight(WeightScheme(4), integers, scale)
    with pytest.raises(ValueError, match="same scheme"):
        one.with_rows_of(QuantizedWeight(WeightScheme(8), integers, scale), np.ones(2, np.bool_))
