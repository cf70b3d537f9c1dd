"""Factors that move size from a layer's inputs into its weights: x_j / s_j times w_j * s_j stays what it was.

The division is folded into what makes the inputs: a norm's weight, or the rows of the linear layer before.
Several layers that read the same inputs (q, k, v; gate, up) share the factors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.measure import output_errors
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scheme import Floats, WeightScheme, check_matrix, row_blocks

__all__ = [
    "ScaleSearch",
    "channel_maxima",
    "fold_into_linear",
    "fold_into_norm",
    "grouped_query_ties",
    "scale_inputs",
    "search",
    "tied_maximum",
    "tied_mean",
    "untied",
]

_LEAST, _MOST = 1e-4, 1e4


@dataclass(frozen=True)
class ScaleSearch:
    """What a search found. factors: [in], all ones if nothing is better. alpha: the exponent that gave them,
    None for ones. error: squared output error with them; baseline: without. errors: of every alpha tried."""

    factors: NDArray[np.float64]
    alpha: float | None
    error: float
    baseline: float
    errors: dict[float, float]


def search(
    candidates: Iterable[tuple[float, NDArray[np.float64]]],
    features: int,
    error_of: Callable[[NDArray[np.float64]], float],
) -> ScaleSearch:
    """The best of (alpha, factors [in]), and of factors 1, by error_of(factors); the first of equals.

    Candidates whose weights cannot be quantized (a scale overflows its type) have an infinite error; if
    factors 1 cannot, error_of's ValueError is raised."""
    ones = np.ones(features)
    baseline = error_of(ones)
    best, best_alpha, least = ones, None, baseline
    errors = {}
    for alpha, factors in candidates:
        try:
            error = error_of(factors)
        except ValueError:
            error = math.inf
        errors[alpha] = error
        if error < least:
            best, best_alpha, least = factors, alpha, error
    return ScaleSearch(best, best_alpha, least, baseline, errors)


def weight_error(
    weights: Iterable[Floats],
    factors: NDArray[np.float64],
    scheme: WeightScheme,
    *,
    hessian: Floats | None = None,
    inputs: Floats | None = None,
) -> float:
    """Squared output error of layers [out, in] that read the same inputs, when these are divided by factors
    [in] and the scaled weights rounded to nearest. hessian, inputs: those of the undivided inputs, as for
    output_errors."""
    error = 0.0
    for weight in weights:
        if hessian is not None:
            hessian = hessian.astype(weight.dtype, copy=False)
        for rows in row_blocks(len(weight)):
            part = weight[rows]
            rounded = round_to_nearest(scale_inputs(part, factors), scheme).dequantize(part.dtype)
            rounded /= factors.astype(part.dtype)
            error += float(output_errors(part - rounded, hessian=hessian, inputs=inputs).sum())
    return error


def bounded(factors: NDArray[np.float64], live: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Factors within 1e-4 … 1e4, and 1 where an input is not live."""
    return np.where(live, np.clip(factors, _LEAST, _MOST), 1.0)


def scale_inputs(weight: Floats, factors: Floats) -> Floats:
    """Weights [out, in] of a layer whose inputs are divided by factors [in]."""
    _check_factors(factors, weight.shape[1])
    scaled: Floats = weight * factors.astype(weight.dtype)
    return scaled


def fold_into_norm(norm_weight: Floats, factors: Floats) -> Floats:
    """The weight [in] of the norm that makes the inputs, such that they come out divided by factors [in]."""
    _check_factors(factors, len(norm_weight))
    folded: Floats = norm_weight / factors.astype(norm_weight.dtype)
    return folded


def fold_into_linear(
    weight: Floats, factors: Floats, bias: Floats | None = None
) -> tuple[Floats, Floats | None]:
    """The weight [out, in] and bias [out] of the linear layer before, such that its outputs are divided by
    factors [out]. Between the two only what passes factors through may be: attention's weighted sums of
    values (see grouped_query_ties), or a product with something else (up_proj before down_proj)."""
    _check_factors(factors, len(weight))
    divisor = factors.astype(weight.dtype)
    return weight / divisor[:, None], None if bias is None else bias / divisor.astype(bias.dtype)


def grouped_query_ties(heads: int, kv_heads: int, head_dim: int) -> NDArray[np.intp]:
    """For each input of o_proj [heads * head_dim] the output of v_proj, of kv_heads * head_dim, that it is
    mixed from. Inputs of one number must share a factor, to be folded into v_proj. ValueError: heads cannot
    be shared out."""
    if kv_heads < 1 or heads % kv_heads:
        raise ValueError(f"{heads} heads cannot share {kv_heads} heads of keys and values")
    outputs = np.arange(kv_heads * head_dim).reshape(kv_heads, 1, head_dim)
    return np.broadcast_to(outputs, (kv_heads, heads // kv_heads, head_dim)).reshape(-1)


def tied_maximum(values: Floats, ties: NDArray[np.intp] | None) -> NDArray[np.float64]:
    """Each value [in] replaced by the largest of those tied to it (of the same number in ties [in])."""
    if ties is None:
        return values.astype(np.float64)
    largest = np.full(int(ties.max()) + 1, -np.inf)
    np.maximum.at(largest, ties, values)
    return largest[ties]


def tied_mean(values: Floats, ties: NDArray[np.intp] | None) -> NDArray[np.float64]:
    """Each value [in] replaced by the mean of those tied to it."""
    if ties is None:
        return values.astype(np.float64)
    means = np.bincount(ties, values) / np.maximum(np.bincount(ties), 1)
    return means[ties]


def untied(factors: Floats, ties: NDArray[np.intp]) -> Floats:
    """Factors [in] that obey ties -> one for each number of ties: those of v_proj's outputs."""
    single = np.empty(int(ties.max()) + 1, factors.dtype)
    single[ties] = factors
    if not np.array_equal(single[ties], factors):
        raise ValueError("inputs that are tied have different factors")
    return single


def channel_maxima(weights: Iterable[Floats]) -> NDArray[np.float64]:
    """Largest magnitude of each input's weights, [in], over several weights [out, in]. ValueError: sizes
    differ, or a weight is not finite."""
    largest: NDArray[np.float64] | None = None
    for weight in weights:
        check_matrix(weight, "weight", (None, None if largest is None else len(largest)))
        ours = np.abs(weight).max(axis=0, initial=0).astype(np.float64)
        largest = ours if largest is None else np.maximum(largest, ours)
    if largest is None:
        raise ValueError("no weights")
    return largest


def check_statistic(values: Floats, name: str, features: int) -> None:
    """ValueError unless values are finite, not negative and [features]."""
    check_matrix(values, name, (features,))
    if np.any(values < 0):
        raise ValueError(f"{name} is negative, at {int(np.argmin(values))}")


def _check_factors(factors: Floats, size: int) -> None:
    check_matrix(factors, "factors", (size,))
    if not np.all(factors > 0):
        raise ValueError(f"factors must be positive, not {factors.min()} at {int(np.argmin(factors))}")
