"""Coordinate descent ends where no single change helps, and never above where it started."""

from __future__ import annotations

from unittest import mock

import naive_quantizers as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.export.quantize import refine as refine_module
from mindir_llm.export.quantize.gptq import gptq
from mindir_llm.export.quantize.measure import hessian_error
from mindir_llm.export.quantize.refine import refine
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scheme import QuantizedWeight, WeightScheme

# Columns that are computed at once and those that are changed one by one: as ever, and so few that the small
# matrices here have several of either.
_BLOCKS = [(refine_module._BLOCK, refine_module._LEAF), (6, 4), (4, 2)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.sampled_from([4, 8]),
    group_size=st.sampled_from([0, 3, 4]),
    symmetric=st.booleans(),
    blocks=st.sampled_from(_BLOCKS),
)
def test_no_single_integer_can_be_improved(
    seed: int, bits: int, group_size: int, symmetric: bool, blocks: tuple[int, int]
) -> None:
    scheme = WeightScheme(bits, group_size, symmetric, "float64")
    weight = np.random.default_rng(seed).standard_normal((2, 7))
    inputs = naive.correlated_inputs(seed, 30, 7)
    hessian = inputs.T @ inputs
    start = round_to_nearest(weight, scheme)
    with mock.patch.multiple(refine_module, _BLOCK=blocks[0], _LEAF=blocks[1]):
        end = refine(weight, hessian, start, sweeps=100, damping=0, fit_scales=False)
    np.testing.assert_array_equal(end.scale, start.scale)
    least = naive.output_error(weight - end.dequantize(np.float64), inputs)
    assert least <= naive.output_error(weight - start.dequantize(np.float64), inputs) * (1 + 1e-9)
    for row in range(2):
        for column in range(7):
            for change in (-1, 1):
                integers = end.integers.copy()
                if not scheme.low <= int(integers[row, column]) + change <= scheme.high:
                    continue
                integers[row, column] += change
                other = QuantizedWeight(scheme, integers, end.scale, end.zero).dequantize(np.float64)
                assert naive.output_error(weight - other, inputs) >= least * (1 - 1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    group_size=st.sampled_from([0, 3, 4]),
    symmetric=st.booleans(),
    blocks=st.sampled_from(_BLOCKS),
)
def test_no_single_scale_can_be_improved(
    seed: int, group_size: int, symmetric: bool, blocks: tuple[int, int]
) -> None:
    scheme = WeightScheme(4, group_size, symmetric, "float64")
    weight = np.random.default_rng(seed).standard_normal((2, 7))
    inputs = naive.correlated_inputs(seed, 30, 7)
    with mock.patch.multiple(refine_module, _BLOCK=blocks[0], _LEAF=blocks[1]):
        end = refine(weight, inputs.T @ inputs, round_to_nearest(weight, scheme), sweeps=300, damping=0)
    least = naive.output_error(weight - end.dequantize(np.float64), inputs)
    for row in range(2):
        for group in range(end.scale.shape[1]):
            for factor in (0.999, 1.001):
                scale = end.scale.copy()
                scale[row, group] *= factor
                other = QuantizedWeight(scheme, end.integers, scale, end.zero).dequantize(np.float64)
                assert naive.output_error(weight - other, inputs) >= least * (1 - 1e-6)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 40),
    group_size=st.sampled_from([0, 4, 8]),
    symmetric=st.booleans(),
    dtype=st.sampled_from(["float16", "float32"]),
    single=st.booleans(),
)
def test_no_row_gets_worse(
    seed: int, count: int, group_size: int, symmetric: bool, dtype: str, single: bool
) -> None:
    scheme = WeightScheme(4, group_size, symmetric, dtype)
    weight = np.random.default_rng(seed).standard_normal((4, 20)).astype(np.float32 if single else np.float64)
    inputs = naive.correlated_inputs(seed, count, 20)
    inputs[:, 3] = 0
    hessian = (inputs.T @ inputs).astype(weight.dtype)
    start = gptq(weight, hessian, scheme)
    end = refine(weight, hessian, start)
    assert end.scale.dtype == np.dtype(dtype) and np.all(end.scale > 0)
    assert end.integers.min() >= scheme.low and end.integers.max() <= scheme.high
    slack = (1e-4 if single else 1e-9) * float(np.trace(hessian))
    for row in range(4):
        part = slice(row, row + 1)
        before = naive.output_error((weight - start.dequantize(np.float64))[part], inputs)
        after = naive.output_error((weight - end.dequantize(np.float64))[part], inputs)
        assert after <= before + slack


def test_improves_on_gptq() -> None:
    weight = np.random.default_rng(1).standard_normal((40, 200)).astype(np.float32)
    inputs = naive.correlated_inputs(2, 1000, 200, outliers=3)
    hessian = inputs.T @ inputs
    for scheme in (WeightScheme(4, 32), WeightScheme(4, 128, False), WeightScheme(4), WeightScheme(8)):
        start = gptq(weight, hessian, scheme, desc_act=True)
        end = refine(weight, hessian, start)
        before = hessian_error(weight.astype(np.float64), start.dequantize(np.float64), hessian)
        after = hessian_error(weight.astype(np.float64), end.dequantize(np.float64), hessian)
        assert after < 0.95 * before


def test_arguments_are_left_as_they_were() -> None:
    weight = np.random.default_rng(3).standard_normal((4, 20))
    inputs = naive.correlated_inputs(4, 30, 20)
    hessian = inputs.T @ inputs
    start = round_to_nearest(weight, WeightScheme(4, 8))
    copies = weight.copy(), hessian.copy(), start.integers.copy(), start.scale.copy()
    refine(weight, hessian, start)
    for ours, copy in zip((weight, hessian, start.integers, start.scale), copies, strict=True):
        np.testing.assert_array_equal(ours, copy)
    nothing = refine(weight, hessian, start, sweeps=0)
    np.testing.assert_array_equal(nothing.integers, start.integers)


def test_what_does_not_fit_is_refused() -> None:
    weight = np.ones((2, 3))
    start = round_to_nearest(weight, WeightScheme(4))
    with pytest.raises(ValueError, match=r"weight has shape \(2, 4\), must be \(2, 3\)"):
        refine(np.ones((2, 4)), np.eye(3), start)
    with pytest.raises(ValueError, match=r"hessian has shape \(4, 4\)"):
        refine(weight, np.eye(4), start)
    with pytest.raises(ValueError, match=r"hessian holds a value that is not finite, at \[0, 0\]"):
        refine(weight, np.full((3, 3), np.nan), start)
    with pytest.raises(ValueError, match="must not be negative"):
        refine(weight, np.eye(3), start, sweeps=-1)
