"""AWQ, its clipping, and OutlierSuppressionLite: the searches find what trying everything by hand finds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from unittest import mock

import naive_quantizers as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindir_llm.export.quantize import scheme as scheme_module
from mindir_llm.export.quantize.awq import awq, search_scales
from mindir_llm.export.quantize.clip import search_clip
from mindir_llm.export.quantize.gptq import gptq
from mindir_llm.export.quantize.measure import (
    hessian_error,
    output_errors,
    relative_output_error,
    scale_hessian,
)
from mindir_llm.export.quantize.osl import search_smoothing
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scaling import ScaleSearch, grouped_query_ties, scale_inputs, untied
from mindir_llm.export.quantize.scheme import WeightScheme

Array = NDArray[np.float64]
EXACT4 = WeightScheme(4, 8, scale_dtype="float64")


@pytest.fixture(autouse=True, scope="module")
def few_rows_at_once() -> Iterator[None]:
    """Small matrices have several blocks of rows too."""
    with mock.patch.object(scheme_module, "_BLOCK_ROWS", 2):
        yield


def error_with(weights: list[Array], factors: Array, inputs: Array, scheme: WeightScheme) -> float:
    error = 0.0
    for weight in weights:
        _, values = naive.round_to_nearest(weight * factors, scheme)
        error += naive.output_error(weight - values / factors, inputs)
    return error


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), symmetric=st.booleans(), group_size=st.sampled_from([0, 4, 8]))
def test_awq_scales_against_reference(seed: int, symmetric: bool, group_size: int) -> None:
    scheme = WeightScheme(4, group_size, symmetric, "float64")
    random = np.random.default_rng(seed)
    weights = [random.standard_normal((3, 10)), random.standard_normal((2, 10))]
    inputs = naive.correlated_inputs(seed, 25, 10, outliers=2)
    inputs[:, 4] = 0
    magnitude = np.abs(inputs).mean(axis=0)
    found = search_scales(weights, magnitude, scheme, inputs=inputs, grid=10)
    live = magnitude > 0
    expected = {}
    for step in range(1, 10):
        factors = np.where(live, magnitude, 1.0) ** (step / 10)
        factors /= math.sqrt(factors[live].max() * factors[live].min())
        factors[~live] = 1
        expected[step / 10] = error_with(weights, factors, inputs, scheme)
    assert found.errors == pytest.approx(expected, rel=1e-6)
    assert found.baseline == pytest.approx(error_with(weights, np.ones(10), inputs, scheme), rel=1e-6)
    assert found.error == min(found.baseline, *found.errors.values())
    assert found.error == pytest.approx(error_with(weights, found.factors, inputs, scheme), rel=1e-6)
    by_hessian = search_scales(weights, magnitude, scheme, hessian=inputs.T @ inputs, grid=10)
    assert by_hessian.error == pytest.approx(found.error, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.sampled_from([4, 8]),
    group_size=st.sampled_from([0, 4, 8, 32]),
    symmetric=st.booleans(),
    duo_scaling=st.booleans(),
    single=st.booleans(),
    sampled=st.booleans(),
    outliers=st.integers(0, 3),
)
def test_awq_is_never_worse_than_nearest(
    seed: int,
    bits: int,
    group_size: int,
    symmetric: bool,
    duo_scaling: bool,
    single: bool,
    sampled: bool,
    outliers: int,
) -> None:
    scheme = WeightScheme(bits, group_size, symmetric, "float16")
    dtype = np.float32 if single else np.float64
    random = np.random.default_rng(seed)
    inputs = naive.correlated_inputs(seed, 30, 20, outliers)
    hessian = (inputs.T @ inputs).astype(dtype)
    weights = [random.standard_normal((6, 20)).astype(dtype), random.standard_normal((3, 20)).astype(dtype)]
    weights[0][0] = 0
    result = awq(
        weights,
        np.abs(inputs).mean(axis=0),
        hessian,
        scheme,
        inputs=inputs[:5].astype(dtype) if sampled else None,
        duo_scaling=duo_scaling,
        clip=[True, bool(seed % 2)],
    )
    assert result.error <= result.baseline
    # What the numbers say is so.
    ours = nearest = 0.0
    for weight, quantized in zip(weights, result.weights, strict=True):
        exact = weight.astype(np.float64)
        values = quantized.dequantize(np.float64) / result.scales.factors
        ours += naive.output_error(exact - values, inputs)
        nearest += naive.output_error(exact - round_to_nearest(weight, scheme).dequantize(np.float64), inputs)
    tolerance = 1e-3 if single else 1e-9
    assert ours == pytest.approx(result.error, rel=tolerance)
    assert ours <= nearest * (1 + tolerance)


def test_awq_helps_where_some_inputs_are_large() -> None:
    inputs = naive.correlated_inputs(1, 500, 128, outliers=3)
    weight = np.random.default_rng(2).standard_normal((64, 128))
    hessian = inputs.T @ inputs
    for scheme in (WeightScheme(4, 32), WeightScheme(4, 128, False), WeightScheme(4)):
        result = awq([weight], np.abs(inputs).mean(axis=0), hessian, scheme)
        assert result.scales.alpha is not None
        assert result.error < 0.5 * result.baseline


def test_awq_then_gptq() -> None:
    inputs = naive.correlated_inputs(3, 500, 64, outliers=2)
    weight = np.random.default_rng(4).standard_normal((32, 64))
    hessian = inputs.T @ inputs
    scheme = WeightScheme(4, 32)
    result = awq([weight], np.abs(inputs).mean(axis=0), hessian, scheme)
    factors = result.scales.factors
    scaled = hessian.copy()
    scale_hessian(scaled, factors)
    both = gptq(scale_inputs(weight, factors), scaled, scheme, clip=result.clips[0])
    error = hessian_error(weight, both.dequantize(np.float64) / factors, hessian)
    assert error < result.error


def test_awq_of_dead_inputs_is_nearest() -> None:
    weight = np.random.default_rng(5).standard_normal((4, 16))
    result = awq([weight], np.zeros(16), np.zeros((16, 16)), EXACT4)
    assert result.scales.alpha is None
    np.testing.assert_array_equal(result.weights[0].integers, round_to_nearest(weight, EXACT4).integers)


def test_awq_factors_obey_ties() -> None:
    inputs = naive.correlated_inputs(6, 200, 24, outliers=3)
    ties = grouped_query_ties(6, 2, 4)
    weight = np.random.default_rng(7).standard_normal((8, 24))
    for duo_scaling in (False, True):
        found = search_scales(
            [weight],
            np.abs(inputs).mean(axis=0),
            EXACT4,
            inputs=inputs,
            ties=ties,
            duo_scaling=duo_scaling,
        )
        assert found.alpha is not None
        assert len(untied(found.factors, ties)) == 8


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), symmetric=st.booleans(), group_size=st.sampled_from([0, 4, 6]))
def test_clip_against_reference(seed: int, symmetric: bool, group_size: int) -> None:
    scheme = WeightScheme(4, group_size, symmetric, "float64")
    weight = np.random.default_rng(seed).standard_t(3, (5, 10))
    inputs = naive.correlated_inputs(seed, 30, 10)
    hessian = inputs.T @ inputs
    shrinks = (0.9, 0.7, 0.5)
    factors = search_clip(weight, hessian, scheme, shrinks)
    size = group_size or 10
    for row in range(5):
        best = []
        for start in range(0, 10, size):
            part = slice(start, min(start + size, 10))
            errors = {}
            for factor in (1.0, *shrinks):
                alone = WeightScheme(4, 0, symmetric, "float64")
                values = round_to_nearest(weight[row : row + 1, part], alone, factor).dequantize(np.float64)
                errors[factor] = naive.output_error(weight[row : row + 1, part] - values, inputs[:, part])
            best.append(min(errors, key=lambda factor: errors[factor]))
        whole = slice(row, row + 1)

        def error(clip: Array, whole: slice = whole) -> float:
            values = round_to_nearest(weight[whole], scheme, clip).dequantize(np.float64)
            return naive.output_error(weight[whole] - values, inputs)

        clipped, unclipped = error(np.array([best])), error(np.ones((1, len(best))))
        np.testing.assert_array_equal(factors[row], best if clipped <= unclipped else 1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    activations=st.sampled_from([None, "static", "static-asymmetric", "dynamic"]),
    outliers=st.integers(0, 2),
)
def test_osl_against_reference(seed: int, activations: str | None, outliers: int) -> None:
    scheme = WeightScheme(8, scale_dtype="float64")
    random = np.random.default_rng(seed)
    weights = [random.standard_normal((3, 8)), random.standard_normal((2, 8))]
    inputs = naive.correlated_inputs(seed, 20, 8, outliers) + 1
    largest = np.abs(inputs).max(axis=0)
    alphas = (0.2, 0.5, 0.8)
    found = search_smoothing(weights, largest, scheme, activations=activations, inputs=inputs, alphas=alphas)

    def error(factors: Array) -> float:
        rounded = inputs / factors
        if activations == "dynamic":
            steps = np.abs(rounded).max(axis=1, keepdims=True) / 127
            rounded = np.rint(rounded / steps) * steps
        elif activations == "static":
            step = float(np.float32(np.abs(rounded).max() / 127))
            rounded = np.rint(rounded / step).clip(-128, 127) * step
        elif activations is not None:
            low = rounded.min()
            step = float(np.float32((rounded.max() - low) / 255))
            zero = np.rint(-128 - low / step)
            rounded = ((np.rint(rounded / step) + zero).clip(-128, 127) - zero) * step
        total = 0.0
        for weight in weights:
            _, values = naive.round_to_nearest(weight * factors, scheme)
            for x, seen in zip(inputs, rounded, strict=True):
                total += float(((weight @ x - values @ seen) ** 2).sum())
        return total

    assert found.baseline == pytest.approx(error(np.ones(8)), rel=1e-6)
    heaviest = np.maximum(np.abs(weights[0]).max(axis=0), np.abs(weights[1]).max(axis=0))
    for alpha in alphas:
        assert found.errors[alpha] == pytest.approx(error(largest**alpha / heaviest ** (1 - alpha)), rel=1e-6)
    assert found.error == min(found.baseline, *found.errors.values())


def test_osl_is_at_least_as_good_as_any_fixed_alpha() -> None:
    inputs = naive.correlated_inputs(8, 300, 64, outliers=3).astype(np.float32)
    weight = np.random.default_rng(9).standard_normal((48, 64)).astype(np.float32)
    for activations in ("static", "dynamic"):
        found = search_smoothing(
            [weight], np.abs(inputs).max(axis=0), WeightScheme(8), activations=activations, inputs=inputs
        )
        assert found.alpha is not None
        assert found.error <= found.errors[0.5]
        assert found.error < 0.2 * found.baseline


def test_osl_by_hessian_is_osl_by_inputs() -> None:
    inputs = naive.correlated_inputs(10, 100, 16, outliers=1)
    weight = np.random.default_rng(11).standard_normal((8, 16))
    largest = np.abs(inputs).max(axis=0)
    one = search_smoothing([weight], largest, EXACT4, inputs=inputs)
    other = search_smoothing([weight], largest, EXACT4, hessian=inputs.T @ inputs)
    assert one.alpha == other.alpha
    assert one.errors == pytest.approx(other.errors, rel=1e-6)


def test_osl_static_range_may_come_from_elsewhere() -> None:
    inputs = naive.correlated_inputs(12, 50, 8)
    weight = np.random.default_rng(13).standard_normal((8, 8))

    def found(input_range: tuple[Array, Array] | None) -> ScaleSearch:
        return search_smoothing(
            [weight],
            np.abs(inputs).max(axis=0),
            WeightScheme(8),
            activations="static",
            inputs=inputs,
            input_range=input_range,
        )

    least, largest = inputs.min(axis=0), inputs.max(axis=0)
    assert found((least, largest)).errors == found(None).errors
    assert found((10 * least, 10 * largest)).baseline > found(None).baseline


def test_scales_that_overflow_are_no_candidates() -> None:
    # Scaling up the weights of the first input takes their float16 scale beyond its range.
    inputs = np.ones((4, 2)) * [1e4, 1e-4]
    weight = np.array([[3e5, 1.0]])
    found = search_scales(
        [weight], np.abs(inputs).mean(axis=0), WeightScheme(4, scale_dtype="float16"), inputs=inputs
    )
    assert math.inf in found.errors.values()
    assert math.isfinite(found.error)


def test_measures() -> None:
    inputs = naive.correlated_inputs(14, 20, 6)
    random = np.random.default_rng(15)
    weight, other = random.standard_normal((3, 6)), random.standard_normal((3, 6))
    hessian = inputs.T @ inputs
    error = naive.output_error(weight - other, inputs)
    assert hessian_error(weight, other, hessian) == pytest.approx(error, rel=1e-9)
    rows = [naive.output_error((weight - other)[row : row + 1], inputs) for row in range(3)]
    np.testing.assert_allclose(output_errors(weight - other, hessian=hessian), rows, rtol=1e-9)
    np.testing.assert_allclose(output_errors(weight - other, inputs=inputs), rows, rtol=1e-9)
    relative = math.sqrt(error / naive.output_error(weight, inputs))
    assert relative_output_error(weight, other, hessian=hessian) == pytest.approx(relative, rel=1e-9)
    assert relative_output_error(weight, other, inputs=inputs) == pytest.approx(relative, rel=1e-9)
    assert relative_output_error(0 * weight, 0 * weight, inputs=inputs) == 0
    assert relative_output_error(0 * weight, weight, inputs=inputs) == math.inf
    factors = random.uniform(0.5, 2, 6)
    scaled = hessian.copy()
    scale_hessian(scaled, factors)
    np.testing.assert_allclose(scaled, (inputs / factors).T @ (inputs / factors), rtol=1e-9)
    for arguments in ({}, {"hessian": hessian, "inputs": inputs}):
        with pytest.raises(ValueError, match="either hessian or inputs"):
            output_errors(weight, **arguments)


def test_what_does_not_fit_is_refused() -> None:
    weight, ones = np.ones((2, 3)), np.ones(3)
    bad = weight.copy()
    bad[1, 0] = np.nan
    scheme = WeightScheme(4)
    with pytest.raises(ValueError, match=r"weight holds a value that is not finite, at \[1, 0\]"):
        awq([bad], ones, np.eye(3), scheme)
    with pytest.raises(ValueError, match=r"hessian has shape \(2, 2\)"):
        awq([weight], ones, np.eye(2), scheme)
    with pytest.raises(ValueError, match=r"magnitude holds a value that is not finite, at \[0\]"):
        awq([weight], np.array([np.inf, 1, 1]), np.eye(3), scheme)
    with pytest.raises(ValueError, match="clip is given for 2 weights of 1"):
        awq([weight], ones, np.eye(3), scheme, clip=[True, False])
    with pytest.raises(ValueError, match="no weights"):
        search_scales([], ones, scheme, inputs=weight)
    with pytest.raises(ValueError, match="grid: 0"):
        search_scales([weight], ones, scheme, inputs=weight, grid=0)
    with pytest.raises(ValueError, match=r"inputs has shape \(2, 2\), must be \(any, 3\)"):
        search_scales([weight], ones, scheme, inputs=np.ones((2, 2)))
    with pytest.raises(ValueError, match="activations: int8, must be one of None, static"):
        search_smoothing([weight], ones, scheme, activations="int8", inputs=weight)
    with pytest.raises(ValueError, match="a hessian does not do"):
        search_smoothing([weight], ones, scheme, activations="static", hessian=np.eye(3))
    with pytest.raises(ValueError, match="either hessian or inputs"):
        search_smoothing([weight], ones, scheme)
    with pytest.raises(ValueError, match=r"inputs holds a value that is not finite, at \[1, 0\]"):
        search_smoothing([weight], ones, scheme, inputs=bad)
