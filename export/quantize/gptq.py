"""GPTQ: columns are rounded one after another, each making up for the errors of those before it.

Frantar et al., "GPTQ: Accurate Post-Training Quantization for Generative Pre-trained Transformers", 2022,
arXiv:2210.17323. Its corrections come from the Cholesky factor of the inverse Hessian. The same corrections
come from a factor of the Hessian itself, H = (I + F) D (I + F)ᵀ with F strictly upper triangular: when column
k's turn comes, its target is w_k + Σ (w_i - q_i) F_ik over i < k. That is LDLQ of Chee et al., "QuIP: 2-Bit
Quantization of Large Language Models With Guarantees", 2023, arXiv:2307.13304, which proves them equal; it
needs no inverse, so it is both cheaper and more accurate.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.factor import HessianFactor
from mindir_llm.export.quantize.measure import output_errors
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scheme import (
    Floats,
    QuantizedWeight,
    WeightScheme,
    check_matrix,
    fit_grid,
)

__all__ = ["gptq"]

# Columns that are corrected one by one; larger ranges are halved and corrected by products of matrices.
_LEAF = 32


def gptq(
    weight: Floats,
    hessian: Floats,
    scheme: WeightScheme,
    *,
    desc_act: bool = False,
    static_groups: bool = False,
    damping: float = 0.01,
    clip: Floats | float | None = None,
    never_worse: bool = True,
    factor: HessianFactor | None = None,
) -> QuantizedWeight:
    """Quantize weight [out, in] such that its layer's output changes little.

    weight: float32 or float64; corrections are computed in this type, the factor of the Hessian in float64.
    hessian: [in, in], any positive multiple of the sum of x xᵀ over calibration inputs. desc_act: columns of
    large inputs first (by the Hessian's diagonal), when the others can still make up for them. Groups are
    those of the stored order all the same, so that the result needs no index of groups; their grids are then
    fitted to the weights as they are ("static groups"). static_groups: also without desc_act; otherwise a
    group's grid is fitted when its turn comes, to the corrected weights. A single group for all inputs is
    always static. damping: this part of the diagonal's mean is added to the diagonal, and ten times as much,
    up to three times over, where the Hessian is not positive definite even so. clip: factors in (0, 1] that
    ranges are multiplied with, [out, groups] or one for all. never_worse: rows that round-to-nearest happens
    to serve better, by the undamped Hessian, are taken from it. factor: of this Hessian with this damping and
    desc_act, where another layer of the same inputs has needed it before.

    Inputs that were always zero in calibration (dead columns) neither get nor give corrections: they are
    rounded to nearest rather than set to zero, as they may be alive elsewhere.

    ValueError: shapes or types do not fit, a value is not finite, a diagonal entry is negative, or the
    Hessian is not positive definite however damped.
    """
    check_matrix(weight, "weight")
    features = weight.shape[1]
    check_matrix(hessian, "hessian", (features, features))
    if factor is None:
        factor = HessianFactor(hessian, damping, desc_act)
    size = scheme.columns(features)
    static = static_groups or desc_act or size >= features
    rounding = _Rounding(weight, factor, scheme, size, clip)
    if static:
        rounding.set_grid(*fit_grid(weight, scheme, clip))
        rounding.solve(0, features)
    else:
        rounding.solve_groups(0, features)
    result = rounding.result()
    if not never_worse:
        return result
    nearest = round_to_nearest(weight, scheme, clip)
    errors = output_errors(weight - result.dequantize(weight.dtype), hessian=hessian)
    other = output_errors(weight - nearest.dequantize(weight.dtype), hessian=hessian)
    return result.with_rows_of(nearest, other < errors)


class _Rounding:
    """Columns on their way: everything is transposed, [in, out], so that a column is contiguous, and permuted
    into the order of rounding."""

    def __init__(
        self,
        weight: Floats,
        factor: HessianFactor,
        scheme: WeightScheme,
        size: int,
        clip: Floats | float | None,
    ) -> None:
        channels, features = weight.shape
        groups = scheme.groups(features)
        self._scheme = scheme
        self._size = size
        self._clip = None if clip is None else np.broadcast_to(np.asarray(clip), (channels, groups))
        self._order = factor.order
        self._group = factor.order // size
        self._feedback = factor.feedback(weight.dtype)
        self._targets = np.ascontiguousarray(weight.T[factor.order])
        # What the originals exceed their quantized values by; the originals where it is not known yet.
        self._errors = self._targets.copy()
        self._integers = np.empty((features, channels), np.int8)
        self._scale = np.empty((groups, channels), scheme.scale_dtype)
        self._zero = None if scheme.symmetric else np.empty((groups, channels), np.int8)
        self._steps = np.empty((groups, channels), weight.dtype)
        self._zeros = np.zeros((groups, channels), weight.dtype)

    def set_grid(self, scale: Floats, zero: NDArray[np.int8] | None, first: int = 0) -> None:
        """Grids [out, groups] of the groups from `first` on."""
        groups = slice(first, first + scale.shape[1])
        self._scale[groups] = self._steps[groups] = scale.T
        if self._zero is not None and zero is not None:
            self._zero[groups] = self._zeros[groups] = zero.T

    def solve_groups(self, start: int, end: int) -> None:
        """Round columns start … end, where all corrections by earlier ones have been made. start begins a
        group, end ends one."""
        count = -(-(end - start) // self._size)
        if count > 1:
            middle = start + count // 2 * self._size
            self.solve_groups(start, middle)
            self._correct(start, middle, end)
            self.solve_groups(middle, end)
            return
        group = start // self._size
        clip = None if self._clip is None else self._clip[:, group : group + 1]
        alone = WeightScheme(self._scheme.bits, 0, self._scheme.symmetric, self._scheme.scale_dtype)
        scale, zero = fit_grid(self._corrected(start, end).T, alone, clip)
        self.set_grid(scale, zero, first=group)
        self.solve(start, end)

    def _corrected(self, start: int, end: int) -> Floats:
        """Where columns start … end would best be, given the errors before them and were they not rounded.

        That is not their targets: a column's target takes those before it to be at their original values.
        """
        originals = self._errors[start:end]
        corrections = self._targets[start:end] - originals
        if start:
            corrections = np.linalg.solve(self._feedback[start:end, start:end].T, corrections)
        return originals + corrections

    def solve(self, start: int, end: int) -> None:
        """As solve_groups, for columns whose grids are known."""
        if end - start > _LEAF:
            middle = start + (end - start) // 2
            self.solve(start, middle)
            self._correct(start, middle, end)
            self.solve(middle, end)
            return
        for column in range(start, end):
            target = self._targets[column]
            if column > start:
                target += self._feedback[start:column, column] @ self._errors[start:column]
            self._round(column, target)

    def _correct(self, start: int, middle: int, end: int) -> None:
        """Correct the targets of middle … end for the errors of start … middle."""
        self._targets[middle:end] += self._feedback[start:middle, middle:end].T @ self._errors[start:middle]

    def _round(self, column: int, target: Floats) -> None:
        """As round_to_grid does; `target` is used up."""
        group = self._group[column]
        target /= self._steps[group]
        np.rint(target, out=target)
        target += self._zeros[group]
        np.clip(target, self._scheme.low, self._scheme.high, out=target)
        self._integers[column] = target
        target -= self._zeros[group]
        target *= self._steps[group]
        self._errors[column] -= target

    def result(self) -> QuantizedWeight:
        integers = np.empty(self._integers.shape[::-1], np.int8)
        integers[:, self._order] = self._integers.T
        zero = None if self._zero is None else np.ascontiguousarray(self._zero.T)
        return QuantizedWeight(self._scheme, integers, np.ascontiguousarray(self._scale.T), zero)
