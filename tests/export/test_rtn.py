"""Round-to-nearest int8 and int4 hold their promises for every matrix."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mindir_llm.export.quantize.rtn import (
    dequantize_groups,
    dequantize_rows,
    quantize_groups,
    quantize_rows,
)

matrices = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9),
    elements=st.floats(-1e4, 1e4, width=32),
)


@settings(max_examples=200, deadline=None)
@given(matrices, st.sampled_from(["float16", "float32"]))
def test_error_is_at_most_half_a_step(weight: NDArray[np.float32], dtype: str) -> None:
    quantized, scale = quantize_rows(weight, dtype)
    assert quantized.dtype == np.int8
    assert quantized.shape == weight.shape
    assert scale.dtype == np.dtype(dtype)
    assert scale.shape == (len(weight), 1)
    assert np.all(scale > 0)
    assert quantized.min(initial=0) >= -127
    largest = np.abs(weight).max(axis=1, keepdims=True)
    # Half a step; and a scale rounded down by half an ulp lets the largest weights saturate by that much.
    # Weights too small for any scale of this type vanish.
    ulp = np.finfo(dtype).eps / 2
    tiny = np.finfo(dtype).smallest_subnormal * 127.0
    bound = scale.astype(np.float64) * 0.5 + largest * (ulp + 1e-6) + tiny
    assert np.all(np.abs(dequantize_rows(quantized, scale) - weight) <= bound)


@settings(max_examples=100, deadline=None)
@given(matrices)
def test_quantizing_again_changes_nothing(weight: NDArray[np.float32]) -> None:
    quantized, scale = quantize_rows(weight, np.float32)
    full_range = np.abs(quantized).max(axis=1) == 127
    again, _ = quantize_rows(dequantize_rows(quantized, scale), np.float32)
    np.testing.assert_array_equal(again[full_range], quantized[full_range])


@settings(max_examples=100, deadline=None)
@given(matrices, st.sampled_from(["float16", "float32"]))
def test_symmetric_and_row_by_row(weight: NDArray[np.float32], dtype: str) -> None:
    quantized, scale = quantize_rows(weight, dtype)
    mirrored, same = quantize_rows(-weight, dtype)
    np.testing.assert_array_equal(mirrored, -quantized)
    np.testing.assert_array_equal(same, scale)
    for row in range(len(weight)):
        alone, its_scale = quantize_rows(weight[row : row + 1], dtype)
        np.testing.assert_array_equal(alone[0], quantized[row])
        np.testing.assert_array_equal(its_scale[0], scale[row])


def test_zero_rows_are_safe() -> None:
    quantized, scale = quantize_rows(np.zeros((2, 3), np.float32), np.float16)
    assert not quantized.any()
    np.testing.assert_array_equal(scale, 1)


def test_row_that_underflows_float16_becomes_zero() -> None:
    quantized, scale = quantize_rows(np.full((1, 3), 1e-9, np.float32), np.float16)
    assert not dequantize_rows(quantized, scale).any()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    weight = np.ones((3, 2), np.float32)
    weight[1, 0] = bad
    with pytest.raises(ValueError, match="row 1"):
        quantize_rows(weight, np.float32)


def test_scale_beyond_float16_is_refused() -> None:
    with pytest.raises(ValueError, match="float16"):
        quantize_rows(np.full((1, 1), 1e8, np.float32), np.float16)


group_sizes = st.integers(0, 10)


@settings(max_examples=200, deadline=None)
@given(matrices, group_sizes, st.sampled_from(["float16", "float32"]))
def test_int4_error_is_at_most_half_a_step_of_the_group(
    weight: NDArray[np.float32], group_size: int, dtype: str
) -> None:
    quantized, scale = quantize_groups(weight, group_size, dtype)
    rows, columns = weight.shape
    size = group_size or columns
    assert quantized.dtype == np.int8 and quantized.shape == weight.shape
    assert scale.dtype == np.dtype(dtype) and scale.shape == (rows, math.ceil(columns / size))
    assert np.all(scale > 0)
    assert quantized.min() >= -8 and quantized.max() <= 7
    ulp = np.finfo(dtype).eps / 2
    tiny = np.finfo(dtype).smallest_subnormal * 7.0
    values = dequantize_groups(quantized, group_size, scale)
    # One group after another, in float64.
    for row in range(rows):
        for group in range(scale.shape[1]):
            part = slice(group * size, (group + 1) * size)
            step = float(scale[row, group])
            largest = float(np.abs(weight[row, part]).max())
            meant = quantized[row, part].astype(np.float64) * step
            np.testing.assert_allclose(values[row, part], meant, rtol=1e-6)
            bound = 0.5 * step + largest * (ulp + 1e-6) + tiny
            assert np.all(np.abs(meant - weight[row, part]) <= bound)


@settings(max_examples=100, deadline=None)
@given(matrices, group_sizes, st.sampled_from(["float16", "float32"]))
def test_int4_groups_do_not_know_of_each_other(
    weight: NDArray[np.float32], group_size: int, dtype: str
) -> None:
    quantized, scale = quantize_groups(weight, group_size, dtype)
    size = group_size or weight.shape[1]
    for group in range(scale.shape[1]):
        part = slice(group * size, (group + 1) * size)
        for row in range(len(weight)):
            alone, its_scale = quantize_groups(weight[row : row + 1, part], 0, dtype)
            np.testing.assert_array_equal(alone[0], quantized[row, part])
            assert its_scale[0, 0] == scale[row, group]


def test_int4_zero_group_beside_another() -> None:
    weight = np.array([[0, 0, 7, -7, 3.5]], np.float32)
    quantized, scale = quantize_groups(weight, 2, np.float16)
    np.testing.assert_array_equal(quantized, [[0, 0, 7, -7, 7]])
    np.testing.assert_array_equal(scale, [[1, 1, 0.5]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_int4_refuses_what_is_not_finite(bad: float) -> None:
    weight = np.ones((3, 5), np.float32)
    weight[1, 4] = bad
    with pytest.raises(ValueError, match="row 1"):
        quantize_groups(weight, 2, np.float32)


def test_int4_scale_beyond_float16_is_refused() -> None:
    with pytest.raises(ValueError, match="row 0: scale does not fit float16"):
        quantize_groups(np.full((1, 3), 1e6, np.float32), 2, np.float16)
