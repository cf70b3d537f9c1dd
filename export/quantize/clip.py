"""Narrower ranges for groups of weights: the largest saturate, all others are rounded less.

The clipping of Lin et al., "AWQ: Activation-aware Weight Quantization for LLM Compression and Acceleration",
2023, arXiv:2306.00978: each group's factor is searched on a grid, by the error which that group alone causes
in the layer's outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mindir_llm.export.quantize.measure import output_errors
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scheme import Floats, WeightScheme, check_matrix, row_blocks

__all__ = ["SHRINKS", "search_clip"]

SHRINKS = tuple(1 - i / 20 for i in range(1, 11))
"""0.95, 0.9 … 0.5, the grid of the paper's authors."""


def search_clip(
    weight: Floats, hessian: Floats, scheme: WeightScheme, shrinks: Sequence[float] = SHRINKS
) -> Floats:
    """Factors [out, groups] for the ranges of weight [out, in], of 1 and shrinks, as `clip` of quantizers.

    hessian: [in, in], any positive multiple of the sum of x xᵀ over calibration inputs; its blocks on the
    diagonal serve to choose, as groups are taken one by one. A row whose groups together do worse by the
    whole Hessian than unclipped ones is left at 1, so that no row is ever worse than round-to-nearest.
    """
    check_matrix(weight, "weight")
    check_matrix(hessian, "hessian", (weight.shape[1],) * 2)
    hessian = hessian.astype(weight.dtype, copy=False)
    return np.concatenate(
        [_search(weight[rows], hessian, scheme, shrinks) for rows in row_blocks(len(weight))]
    )


def _search(weight: Floats, hessian: Floats, scheme: WeightScheme, shrinks: Sequence[float]) -> Floats:
    unclipped = weight - round_to_nearest(weight, scheme).dequantize(weight.dtype)
    least = _group_errors(unclipped, hessian, scheme)
    factors = np.ones(least.shape, weight.dtype)
    for shrink in shrinks:
        difference = weight - round_to_nearest(weight, scheme, shrink).dequantize(weight.dtype)
        errors = _group_errors(difference, hessian, scheme)
        better = errors < least
        factors[better] = shrink
        least[better] = errors[better]
    clipped = weight - round_to_nearest(weight, scheme, factors).dequantize(weight.dtype)
    worse = output_errors(clipped, hessian=hessian) > output_errors(unclipped, hessian=hessian)
    factors[worse] = 1
    return factors


def _group_errors(difference: Floats, hessian: Floats, scheme: WeightScheme) -> Floats:
    """Error [out, groups] that each group would cause alone."""
    columns = difference.shape[1]
    size = scheme.columns(columns)
    errors = np.empty((len(difference), scheme.groups(columns)), difference.dtype)
    for group in range(errors.shape[1]):
        part = slice(group * size, (group + 1) * size)
        ours = difference[:, part]
        np.einsum("ij,ij->i", ours @ hessian[part, part], ours, out=errors[:, group])
    return errors
