"""Compensated weights against least squares over the inputs themselves, in float64."""

from __future__ import annotations

from itertools import pairwise

import naive_quantizers as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.export.quantize.compensate import compensate, correct, correction_of
from mindir_llm.export.quantize.gptq import gptq
from mindir_llm.export.quantize.scheme import WeightScheme


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(1, 40),
    features=st.integers(1, 9),
    damping=st.sampled_from([1e-6, 0.01, 1.0]),
    dead=st.booleans(),
)
def test_equals_ridge_regression_on_the_inputs(
    seed: int, count: int, features: int, damping: float, dead: bool
) -> None:
    rng = np.random.default_rng(seed)
    seen = naive.correlated_inputs(seed, count, features)
    original = seen + 0.3 * rng.standard_normal(seen.shape)
    if dead:
        seen[:, 0] = 0
    weight = rng.standard_normal((3, features))
    hessian, drift = seen.T @ seen, seen.T @ (original - seen)
    found = compensate(weight, hessian, drift, damping=damping)
    # Rows that pull towards the weight, under the inputs.
    strength = np.sqrt(damping * np.trace(hessian) / features)
    rows = np.concatenate([seen, strength * np.eye(features)])
    wanted = np.concatenate([original @ weight.T, strength * weight.T])
    expected = np.linalg.lstsq(rows, wanted, rcond=1e-14)[0].T
    if strength:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)

    def error(values: np.ndarray) -> float:
        return float(np.square(original @ weight.T - seen @ values.T).sum())

    correction = correction_of(hessian, drift, damping=damping)
    again = correct(weight, correction)
    np.testing.assert_allclose(again, found, rtol=1e-5, atol=1e-7)
    half = correct(weight, correction, share=0.5)
    np.testing.assert_allclose(half, (weight + again) / 2, rtol=1e-9, atol=1e-9)

    single = compensate(weight.astype(np.float32), hessian, drift, damping=damping)
    assert single.dtype == np.float32
    shares = [compensate(weight, hessian, drift, share=share, damping=damping) for share in (0, 0.3, 0.7, 1)]
    np.testing.assert_array_equal(shares[0], weight)
    for values in shares[1:]:
        assert error(values) <= error(weight) * (1 + 1e-9)
    for before, after in pairwise(shares):
        assert error(after) <= error(before) * (1 + 1e-9)


def test_a_quantizer_of_compensated_weights_comes_closer_to_the_float_outputs() -> None:
    """On inputs that it has not seen, too."""
    rng = np.random.default_rng(5)
    scheme = WeightScheme(4, 16)
    weight = rng.standard_normal((24, 64))
    mixing = rng.standard_normal((64, 64)) / 8
    original = naive.correlated_inputs(1, 4000, 64)
    # What a quantized layer before would do: an error that depends on the inputs.
    seen = original + 0.1 * original @ mixing
    training, test = slice(0, 3000), slice(3000, None)
    hessian = seen[training].T @ seen[training]
    drift = seen[training].T @ (original - seen)[training]

    def error(values: np.ndarray) -> float:
        restored = gptq(values, hessian, scheme).dequantize(np.float64)
        return float(np.square(original[test] @ weight.T - seen[test] @ restored.T).sum())

    assert error(compensate(weight, hessian, drift)) < 0.7 * error(weight)


def test_without_drift_the_weight_stays() -> None:
    weight = np.ones((2, 3))
    zeros = np.zeros((3, 3))
    np.testing.assert_array_equal(compensate(weight, np.eye(3), zeros), weight)
    np.testing.assert_array_equal(compensate(weight, zeros, zeros, damping=0), weight)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1.1}, "share 1.1 from 0 to 1"),
        ({"damping": -1}, "damping -1 must not be negative"),
        ({"drift": np.eye(2)}, r"drift has shape \(2, 2\), must be \(3, 3\)"),
        ({"hessian": np.full((3, 3), np.nan)}, "hessian holds a value that is not finite"),
        ({"hessian": np.ones((3, 3)), "damping": 0}, "hessian is not positive definite"),
    ],
)
def test_wrong_arguments_are_named(changes: dict[str, object], message: str) -> None:
    arguments = {"weight": np.ones((2, 3)), "hessian": np.eye(3), "drift": np.eye(3)} | changes
    with pytest.raises(ValueError, match=message):
        compensate(**arguments)  # type: ignore[arg-type]
