"""AWQ: the few inputs that matter most get finer weights, by scaling inputs down and their weights up.

Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration", 2023,
arXiv:2306.00978.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.clip import search_clip
from mindir_llm.export.quantize.measure import output_errors, scale_hessian
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scaling import (
    ScaleSearch,
    bounded,
    check_statistic,
    scale_inputs,
    search,
    tied_mean,
    weight_error,
)
from mindir_llm.export.quantize.scheme import Floats, QuantizedWeight, WeightScheme, check_matrix

__all__ = ["AwqResult", "awq", "search_scales"]


@dataclass(frozen=True)
class AwqResult:
    """scales: the factors [in] that inputs must be divided by, and how they were found. clips: [out, groups]
    of each weight, to be used by another quantizer of the scaled weights (GPTQ). weights: the scaled weights,
    quantized. error: squared output error by the Hessian; baseline: that of round-to-nearest, never less."""

    scales: ScaleSearch
    clips: list[Floats]
    weights: list[QuantizedWeight]
    error: float
    baseline: float


def awq(
    weights: Sequence[Floats],
    magnitude: Floats,
    hessian: Floats,
    scheme: WeightScheme,
    *,
    inputs: Floats | None = None,
    grid: int = 20,
    duo_scaling: bool = False,
    clip: bool | Sequence[bool] = True,
    ties: NDArray[np.intp] | None = None,
) -> AwqResult:
    """Scale, clip and quantize the weights [out, in] of layers that read the same inputs.

    magnitude: mean |x| of each input, [in]. hessian: [in, in], any positive multiple of the sum of x xᵀ over
    calibration inputs. inputs: [n, in], some calibration inputs to search scales with instead, which is
    faster where n is less than in. clip: whether to search clipping, for all weights or each (the paper's
    authors leave out q_proj and k_proj). Others and ValueError: as for search_scales.

    The error is never above round-to-nearest's: scales that turn out worse by the Hessian are dropped, and so
    is a row's clipping.
    """
    if isinstance(clip, bool):
        clip = [clip] * len(weights)
    if len(clip) != len(weights):
        raise ValueError(f"clip is given for {len(clip)} weights of {len(weights)}")
    check_matrix(hessian, "hessian", (len(magnitude),) * 2)
    scales = search_scales(
        weights,
        magnitude,
        scheme,
        hessian=hessian if inputs is None else None,
        inputs=inputs,
        grid=grid,
        duo_scaling=duo_scaling,
        ties=ties,
    )
    ones = np.ones(len(magnitude))
    baseline = weight_error(weights, ones, scheme, hessian=hessian)
    unscaled = ScaleSearch(ones, None, scales.baseline, scales.baseline, scales.errors)
    if inputs is not None and weight_error(weights, scales.factors, scheme, hessian=hessian) > baseline:
        scales = unscaled
    result = _clipped_and_quantized(weights, scales, hessian, scheme, clip, baseline)
    if result.error > baseline:
        # By rounding of the sums, or where nothing helps. What comes now is round-to-nearest itself.
        result = _clipped_and_quantized(weights, unscaled, hessian, scheme, [False] * len(clip), baseline)
        result = replace(result, error=baseline)
    return result


def _clipped_and_quantized(
    weights: Sequence[Floats],
    scales: ScaleSearch,
    hessian: Floats,
    scheme: WeightScheme,
    clip: Sequence[bool],
    baseline: float,
) -> AwqResult:
    hessian = hessian.copy()
    scale_hessian(hessian, scales.factors)
    clips: list[Floats] = []
    results = []
    error = 0.0
    for weight, search_it in zip(weights, clip, strict=True):
        scaled = scale_inputs(weight, scales.factors)
        if search_it:
            clips.append(search_clip(scaled, hessian, scheme))
        else:
            clips.append(np.ones((len(weight), scheme.groups(weight.shape[1])), weight.dtype))
        results.append(round_to_nearest(scaled, scheme, clips[-1]))
        difference = scaled - results[-1].dequantize(weight.dtype)
        error += float(output_errors(difference, hessian=hessian).sum())
    return AwqResult(scales, clips, results, error, baseline)


def search_scales(
    weights: Sequence[Floats],
    magnitude: Floats,
    scheme: WeightScheme,
    *,
    hessian: Floats | None = None,
    inputs: Floats | None = None,
    grid: int = 20,
    duo_scaling: bool = False,
    ties: NDArray[np.intp] | None = None,
) -> ScaleSearch:
    """The factors s = mean|x|^alpha, of `grid` alphas from 0 to below 1, that make the output error least.

    weights: [out, in] each; their errors are added. Exactly one of hessian [in, in] and inputs [n, in].
    duo_scaling: s = mean|x|^alpha / mean|w|^(1 - alpha) instead, as later implementations have it; w are
    magnitudes relative to the largest of their group. ties: inputs of the same number get one factor
    (grouped_query_ties). Factors are normalized to 1 between least and largest; inputs that were always zero
    get 1.

    ValueError: shapes or types do not fit, a value is not finite, a magnitude is negative.
    """
    if not weights:
        raise ValueError("no weights")
    features = len(magnitude)
    check_statistic(magnitude, "magnitude", features)
    for weight in weights:
        check_matrix(weight, "weight", (None, features))
    if hessian is not None:
        check_matrix(hessian, "hessian", (features, features))
    if inputs is not None:
        check_matrix(inputs, "inputs", (None, features))
    if grid < 1:
        raise ValueError(f"grid: {grid}, must be positive")
    relative = tied_mean(_relative_magnitude(weights, scheme), ties) if duo_scaling else None
    return search(
        _candidates(tied_mean(magnitude, ties), relative, grid),
        features,
        lambda factors: weight_error(weights, factors, scheme, hessian=hessian, inputs=inputs),
    )


def _candidates(
    magnitude: NDArray[np.float64], relative: NDArray[np.float64] | None, grid: int
) -> Iterator[tuple[float, NDArray[np.float64]]]:
    live = magnitude > 0 if relative is None else (magnitude > 0) & (relative > 0)
    if not np.any(live):
        return
    # alpha 0 is round-to-nearest itself unless weights take part.
    for step in range(1 if relative is None else 0, grid):
        alpha = step / grid
        factors = np.ones(len(magnitude))
        factors[live] = magnitude[live] ** alpha
        if relative is not None:
            factors[live] /= relative[live] ** (1 - alpha)
        factors[live] /= np.sqrt(factors[live].max()) * np.sqrt(factors[live].min())
        yield alpha, bounded(factors, live)


def _relative_magnitude(weights: Sequence[Floats], scheme: WeightScheme) -> NDArray[np.float64]:
    """Mean over all rows of |w| divided by the largest of its group, [in]."""
    columns = weights[0].shape[1]
    size = scheme.columns(columns)
    total, rows = np.zeros(columns), 0
    for weight in weights:
        magnitude = np.abs(weight)
        for start in range(0, columns, size):
            part = magnitude[:, start : start + size]
            largest = part.max(axis=1, keepdims=True)
            total[start : start + size] += (part / np.where(largest == 0, 1, largest)).sum(axis=0)
        rows += len(weight)
    return total / max(rows, 1)
