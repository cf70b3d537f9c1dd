"""Factors between inputs and weights: SmoothQuant's formula, folding, and sharing among heads."""

from __future__ import annotations

import naive_quantizers as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mindir_llm.export.quantize.scaling import (
    channel_maxima,
    fold_into_linear,
    fold_into_norm,
    grouped_query_ties,
    scale_inputs,
    search,
    tied_maximum,
    tied_mean,
    untied,
)
from mindir_llm.export.quantize.smoothquant import smoothing_factors

Array = NDArray[np.float64]


def norm(x: Array, weight: Array) -> Array:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0, 1))
def test_smoothing_leaves_float_output_unchanged(seed: int, alpha: float) -> None:
    random = np.random.default_rng(seed)
    x, norm_weight = naive.correlated_inputs(seed, 30, 16, outliers=2), random.uniform(0.1, 2, 16)
    gate, up, down = (random.standard_normal(shape) for shape in ((24, 16), (24, 16), (16, 24)))

    def mlp(norm_weight: Array, gate: Array, up: Array, down: Array) -> tuple[Array, Array, Array]:
        h = norm(x, norm_weight)
        g = h @ gate.T
        inner = g / (1 + np.exp(-g)) * (h @ up.T)
        return h, inner, inner @ down.T

    h, inner, expected = mlp(norm_weight, gate, up, down)
    first = smoothing_factors(np.abs(h).max(axis=0), channel_maxima([gate, up]), alpha)
    second = smoothing_factors(np.abs(inner).max(axis=0), channel_maxima([down]), alpha)
    new_up, no_bias = fold_into_linear(scale_inputs(up, first), second)
    assert no_bias is None
    new_h, new_inner, actual = mlp(
        fold_into_norm(norm_weight, first),
        scale_inputs(gate, first),
        new_up,
        scale_inputs(down, second),
    )
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10 * np.abs(expected).max())
    np.testing.assert_allclose(new_h * first, h, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(new_inner * second, inner, rtol=1e-8, atol=1e-10 * np.abs(inner).max())


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), alpha=st.floats(0, 1))
def test_smoothing_formula(seed: int, alpha: float) -> None:
    random = np.random.default_rng(seed)
    activations, weights = random.uniform(0.01, 50, 9), random.uniform(0.01, 2, 9)
    activations[2] = weights[5] = 0
    factors = smoothing_factors(activations, weights, alpha)
    for j in range(9):
        expected = 1.0 if j in (2, 5) else activations[j] ** alpha / weights[j] ** (1 - alpha)
        assert factors[j] == pytest.approx(expected, rel=1e-12)


def test_half_way_inputs_and_weights_are_alike() -> None:
    # Section 4 of the paper: with alpha 0.5 both have the same maxima, their geometric mean.
    activations, weights = np.array([100.0, 1.0, 0.5]), np.array([0.25, 4.0, 0.5])
    factors = smoothing_factors(activations, weights, 0.5)
    np.testing.assert_allclose(activations / factors, weights * factors, rtol=1e-12)
    np.testing.assert_allclose(activations / factors, np.sqrt(activations * weights), rtol=1e-12)


def test_extreme_factors_are_bounded() -> None:
    factors = smoothing_factors(np.array([1e30, 1e-30]), np.array([1e-30, 1e30]), 0.5)
    np.testing.assert_array_equal(factors, [1e4, 1e-4])


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_values_and_output_projection_share_factors(heads: int, kv_heads: int) -> None:
    dim, random = 3, np.random.default_rng(heads)
    x, attention = random.standard_normal((7, 5)), random.uniform(0, 1, (heads, 7, 7))
    v, bias = random.standard_normal((kv_heads * dim, 5)), random.standard_normal(kv_heads * dim)
    o = random.standard_normal((5, heads * dim))

    def attend(v: Array, bias: Array, o: Array) -> tuple[Array, Array]:
        values = (x @ v.T + bias).reshape(7, kv_heads, dim)
        mixed = [attention[head] @ values[:, head // (heads // kv_heads)] for head in range(heads)]
        context = np.concatenate(mixed, axis=-1)
        return context, context @ o.T

    context, expected = attend(v, bias, o)
    ties = grouped_query_ties(heads, kv_heads, dim)
    factors = smoothing_factors(np.abs(context).max(axis=0), channel_maxima([o]), 0.6, ties)
    new_v, new_bias = fold_into_linear(v, untied(factors, ties), bias)
    assert new_bias is not None
    smoothed, actual = attend(new_v, new_bias, scale_inputs(o, factors))
    np.testing.assert_allclose(smoothed * factors, context, rtol=0, atol=1e-12)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_ties() -> None:
    ties = np.array([0, 1, 0, 1])
    values = np.array([1.0, 5.0, 3.0, 2.0])
    np.testing.assert_array_equal(tied_maximum(values, ties), [3, 5, 3, 5])
    np.testing.assert_array_equal(tied_mean(values, ties), [2, 3.5, 2, 3.5])
    np.testing.assert_array_equal(tied_maximum(values, None), values)
    np.testing.assert_array_equal(tied_mean(values, None), values)
    np.testing.assert_array_equal(untied(np.array([3.0, 5, 3, 5]), ties), [3, 5])
    with pytest.raises(ValueError, match="tied have different factors"):
        untied(values, ties)
    with pytest.raises(ValueError, match="4 heads cannot share 3 heads"):
        grouped_query_ties(4, 3, 2)


def test_search_takes_the_best_and_nothing_if_nothing_helps() -> None:
    candidates = [(0.5, np.array([2.0])), (0.7, np.array([3.0])), (0.9, np.array([3.0]))]
    found = search(candidates, 1, lambda factors: abs(factors[0] - 3))
    assert (found.alpha, found.error, found.baseline) == (0.7, 0, 2)
    assert found.errors == {0.5: 1, 0.7: 0, 0.9: 0}
    found = search(candidates, 1, lambda factors: 1.0)
    assert found.alpha is None and found.error == found.baseline == 1
    np.testing.assert_array_equal(found.factors, [1])


def test_what_does_not_fit_is_refused() -> None:
    ones = np.ones(3)
    with pytest.raises(ValueError, match=r"alpha: 1\.5"):
        smoothing_factors(ones, ones, 1.5)
    with pytest.raises(ValueError, match=r"weight_max has shape \(2,\), must be \(3\)"):
        smoothing_factors(ones, np.ones(2))
    with pytest.raises(ValueError, match="activation_max is negative, at 1"):
        smoothing_factors(np.array([1.0, -1, 1]), ones)
    with pytest.raises(ValueError, match=r"activation_max holds a value that is not finite, at \[2\]"):
        smoothing_factors(np.array([1.0, 1, np.nan]), ones)
    with pytest.raises(ValueError, match=r"factors must be positive, not 0\.0 at 0"):
        fold_into_norm(ones, np.array([0.0, 1, 1]))
    with pytest.raises(ValueError, match="factors has shape"):
        scale_inputs(np.ones((2, 4)), ones)
    with pytest.raises(ValueError, match="no weights"):
        channel_maxima([])
