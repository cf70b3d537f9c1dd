"""The shared factor of a Hessian against numpy's own solvers, in float64."""

from __future__ import annotations

import naive_quantizers as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.export.quantize.compensate import compensate
from mindir_llm.export.quantize.factor import HessianFactor
from mindir_llm.export.quantize.gptq import gptq
from mindir_llm.export.quantize.scheme import WeightScheme


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    features=st.sampled_from([1, 2, 9, 40, 255, 256, 257, 600]),
    damping=st.sampled_from([1e-4, 0.01, 1.0]),
    desc_act=st.booleans(),
    dead=st.booleans(),
)
def test_factor_and_solution(
    seed: int, count: int, features: int, damping: float, desc_act: bool, dead: bool
) -> None:
    inputs = naive.correlated_inputs(seed, count, features)
    if dead:
        inputs[:, features // 2] = 0
    hessian = inputs.T @ inputs
    kept = hessian.copy()
    factor = HessianFactor(hessian, damping, desc_act)
    np.testing.assert_array_equal(hessian, kept)
    damped = hessian + damping * (np.diag(hessian).mean() or 1.0) * np.eye(features)
    order = factor.order
    assert sorted(order) == list(range(features))
    diagonal = np.diag(hessian)[order]
    assert np.all(np.diff(diagonal) <= 0) if desc_act else np.array_equal(order, range(features))
    # (I + F) D (I + F)ᵀ, for the D that makes the diagonal right.
    feedback = factor.feedback(np.float64)
    np.testing.assert_array_equal(feedback, np.triu(feedback))
    np.testing.assert_array_equal(np.diag(feedback), np.ones(features))
    ordered = damped[np.ix_(order, order)]
    middle = np.linalg.solve(feedback, np.linalg.solve(feedback, ordered).T)
    np.testing.assert_allclose(
        (feedback * np.diag(middle)) @ feedback.T, ordered, atol=1e-9 * np.abs(ordered).max()
    )
    assert factor.feedback(np.float32).dtype == np.float32
    right = np.random.default_rng(seed).standard_normal((features, 3))
    np.testing.assert_allclose(damped @ factor.solve(right), right, atol=1e-7 * np.abs(right).max())


@pytest.mark.parametrize("desc_act", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_shared_factor_changes_nothing(desc_act: bool, dtype: type) -> None:
    rng = np.random.default_rng(2)
    inputs = naive.correlated_inputs(1, 200, 70)
    weight = rng.standard_normal((20, 70)).astype(dtype)
    hessian, drift = inputs.T @ inputs, inputs.T @ (0.1 * rng.standard_normal(inputs.shape))
    factor = HessianFactor(hessian, 0.02, desc_act)
    scheme = WeightScheme(4, 32)
    alone = gptq(weight, hessian, scheme, desc_act=desc_act, damping=0.02)
    shared = gptq(weight, hessian, scheme, desc_act=desc_act, damping=0.02, factor=factor)
    np.testing.assert_array_equal(shared.integers, alone.integers)
    np.testing.assert_array_equal(shared.scale, alone.scale)
    found = compensate(weight, hessian, drift, damping=0.02, factor=factor)
    np.testing.assert_allclose(found, compensate(weight, hessian, drift, damping=0.02), rtol=1e-6, atol=1e-7)
    assert np.abs(found - weight).max() > 1e-3
