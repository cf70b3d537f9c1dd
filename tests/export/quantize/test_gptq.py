"""GPTQ against Optimal Brain Quantization with explicit inverses, and its promise over round-to-nearest."""

from __future__ import annotations

import naive_quantizers as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.export.quantize.gptq import gptq
from mindir_llm.export.quantize.measure import add_to_hessian, hessian_error
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scheme import WeightScheme

SCHEMES = [
    WeightScheme(bits, group_size, symmetric, "float64")
    for bits in (4, 8)
    for group_size in (0, 32, 64, 128)
    for symmetric in (True, False)
]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    features=st.integers(1, 12),
    bits=st.sampled_from([4, 8]),
    group_size=st.sampled_from([0, 1, 3, 4, 8]),
    symmetric=st.booleans(),
    desc_act=st.booleans(),
    static_groups=st.booleans(),
    dead=st.integers(0, 2),
)
def test_against_reference(
    seed: int,
    features: int,
    bits: int,
    group_size: int,
    symmetric: bool,
    desc_act: bool,
    static_groups: bool,
    dead: int,
) -> None:
    scheme = WeightScheme(bits, group_size, symmetric, "float64")
    weight = np.random.default_rng(seed).standard_normal((3, features))
    inputs = naive.correlated_inputs(seed, 40, features)
    inputs[:, :dead] = 0
    hessian = 2 * inputs.T @ inputs
    quantized = gptq(
        weight,
        hessian,
        scheme,
        desc_act=desc_act,
        static_groups=static_groups,
        damping=0.01,
        never_worse=False,
    )
    integers, values = naive.gptq(weight, hessian, scheme, 0.01, desc_act, static_groups)
    np.testing.assert_array_equal(quantized.integers, integers)
    np.testing.assert_allclose(quantized.dequantize(np.float64), values, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("features", [70, 150])
@pytest.mark.parametrize("group_size", [0, 16, 48, 128])
@pytest.mark.parametrize("desc_act", [False, True])
def test_against_reference_in_many_blocks(features: int, group_size: int, desc_act: bool) -> None:
    scheme = WeightScheme(4, group_size, False, "float64")
    weight = np.random.default_rng(1).standard_normal((2, features))
    inputs = naive.correlated_inputs(2, 400, features)
    hessian = inputs.T @ inputs
    quantized = gptq(weight, hessian, scheme, desc_act=desc_act, never_worse=False)
    integers, values = naive.gptq(weight, hessian, scheme, 0.01, desc_act, False)
    np.testing.assert_array_equal(quantized.integers, integers)
    np.testing.assert_allclose(quantized.dequantize(np.float64), values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("scheme", SCHEMES, ids=str)
@pytest.mark.parametrize("desc_act", [False, True])
def test_beats_round_to_nearest_by_far(scheme: WeightScheme, desc_act: bool) -> None:
    weight = np.random.default_rng(3).standard_normal((40, 200))
    inputs = naive.correlated_inputs(4, 1000, 200, outliers=3)
    hessian = inputs.T @ inputs
    nearest = hessian_error(weight, round_to_nearest(weight, scheme).dequantize(np.float64), hessian)
    pure = gptq(weight, hessian, scheme, desc_act=desc_act, never_worse=False).dequantize(np.float64)
    assert hessian_error(weight, pure, hessian) < 0.5 * nearest


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 20),
    features=st.integers(1, 12),
    group_size=st.sampled_from([0, 3, 4]),
    symmetric=st.booleans(),
    desc_act=st.booleans(),
)
def test_no_row_is_worse_than_nearest(
    seed: int, count: int, features: int, group_size: int, symmetric: bool, desc_act: bool
) -> None:
    # Few inputs: Hessians are singular, and corrections of little use.
    scheme = WeightScheme(4, group_size, symmetric)
    weight = np.random.default_rng(seed).standard_normal((4, features))
    inputs = naive.correlated_inputs(seed, count, features)
    hessian = inputs.T @ inputs
    ours = gptq(weight, hessian, scheme, desc_act=desc_act).dequantize(np.float64)
    nearest = round_to_nearest(weight, scheme).dequantize(np.float64)
    for row in range(4):
        least = naive.output_error(weight[row : row + 1] - nearest[row : row + 1], inputs)
        assert naive.output_error(weight[row : row + 1] - ours[row : row + 1], inputs) <= least * (
            1 + 1e-9
        ) + 1e-12 * np.trace(hessian)


def test_inputs_that_do_not_correlate_leave_nothing_to_correct() -> None:
    weight = np.random.default_rng(5).standard_normal((5, 40)).astype(np.float32)
    scheme = WeightScheme(4, 32)
    nearest = round_to_nearest(weight, scheme)
    for hessian in (np.zeros((40, 40)), np.diag(np.arange(1.0, 41))):
        for desc_act in (False, True):
            quantized = gptq(weight, hessian, scheme, desc_act=desc_act, never_worse=False)
            np.testing.assert_array_equal(quantized.integers, nearest.integers)
            np.testing.assert_array_equal(quantized.scale, nearest.scale)


def test_dead_columns_are_rounded_to_nearest() -> None:
    weight = np.random.default_rng(6).standard_normal((5, 16))
    inputs = naive.correlated_inputs(7, 100, 16)
    inputs[:, [0, 5, 15]] = 0
    scheme = WeightScheme(8, scale_dtype="float64")
    for damping in (0, 0.01):
        quantized = gptq(weight, inputs.T @ inputs, scheme, damping=damping, never_worse=False)
        nearest = round_to_nearest(weight, scheme)
        np.testing.assert_array_equal(quantized.integers[:, [0, 5, 15]], nearest.integers[:, [0, 5, 15]])


def test_any_multiple_of_the_hessian_and_float32() -> None:
    weight = np.random.default_rng(8).standard_normal((20, 96))
    inputs = naive.correlated_inputs(9, 500, 96)
    hessian = inputs.T @ inputs
    scheme = WeightScheme(4, 32, False)
    expected = gptq(weight, hessian, scheme)
    np.testing.assert_array_equal(gptq(weight, 1024 * hessian, scheme).integers, expected.integers)
    single = gptq(weight.astype(np.float32), hessian.astype(np.float32), scheme)
    # A rounding that tips the other way tips others after it.
    exact = hessian_error(weight, expected.dequantize(np.float64), hessian)
    assert hessian_error(weight, single.dequantize(np.float64), hessian) == pytest.approx(exact, rel=0.05)


def test_arguments_are_left_as_they_were() -> None:
    weight = np.random.default_rng(10).standard_normal((4, 40))
    hessian = np.eye(40) + 0.1
    copies = weight.copy(), hessian.copy()
    gptq(weight, hessian, WeightScheme(4, 32, False), desc_act=True)
    np.testing.assert_array_equal(weight, copies[0])
    np.testing.assert_array_equal(hessian, copies[1])


def test_clip_is_kept() -> None:
    weight = np.random.default_rng(11).standard_normal((4, 40))
    hessian = np.eye(40)
    clip = np.random.default_rng(12).uniform(0.5, 1, (4, 2))
    for desc_act in (False, True):
        scheme = WeightScheme(4, 32)
        quantized = gptq(weight, hessian, scheme, clip=clip, desc_act=desc_act)
        np.testing.assert_array_equal(quantized.scale, round_to_nearest(weight, scheme, clip).scale)


def test_hessians_that_are_none() -> None:
    weight = np.ones((2, 3))
    with pytest.raises(ValueError, match=r"hessian has shape \(2, 2\), must be \(3, 3\)"):
        gptq(weight, np.eye(2), WeightScheme(4))
    with pytest.raises(ValueError, match="hessian has a negative diagonal entry, at 1"):
        gptq(weight, np.diag([1.0, -1, 1]), WeightScheme(4))
    with pytest.raises(ValueError, match="not positive definite"):
        gptq(weight, np.array([[1.0, 100, 0], [100, 1, 0], [0, 0, 1]]), WeightScheme(4))
    bad = np.eye(3)
    bad[0, 2] = np.nan
    with pytest.raises(ValueError, match=r"hessian holds a value that is not finite, at \[0, 2\]"):
        gptq(weight, bad, WeightScheme(4))
    with pytest.raises(ValueError, match=r"weight holds a value that is not finite, at \[0, 2\]"):
        gptq(bad, np.eye(3), WeightScheme(4))
    with pytest.raises(ValueError, match="damping: -1"):
        gptq(weight, np.eye(3), WeightScheme(4), damping=-1)


def test_slightly_indefinite_hessian_is_damped_more() -> None:
    hessian = np.array([[1.0, 1.02], [1.02, 1.0]])
    gptq(np.ones((2, 2)), hessian, WeightScheme(4), damping=0.01)


def test_hessian_streams() -> None:
    inputs = naive.correlated_inputs(13, 30, 6)
    hessian = np.zeros((6, 6))
    for first in range(0, 30, 7):
        add_to_hessian(hessian, inputs[first : first + 7].astype(np.float32))
    np.testing.assert_allclose(hessian, inputs.T @ inputs, rtol=1e-5, atol=1e-4)
