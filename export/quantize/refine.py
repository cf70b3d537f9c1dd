"""Coordinate descent on a quantized matrix: integers and scales are changed one by one while that helps.

Behdin et al., "QuantEase: Optimization-based Quantization for Language Models", 2023, arXiv:2309.01885, for
the integers; scales are refitted by least squares in between. GPTQ decides on each column once, before it
knows what later ones can make up for; this goes over them again.
"""

from __future__ import annotations

import numpy as np

from mindir_llm.export.quantize.measure import output_errors
from mindir_llm.export.quantize.scheme import Floats, QuantizedWeight, check_matrix

__all__ = ["refine"]

_BLOCK = 64


def refine(
    weight: Floats,
    hessian: Floats,
    quantized: QuantizedWeight,
    *,
    sweeps: int = 3,
    damping: float = 0.01,
    fit_scales: bool = True,
) -> QuantizedWeight:
    """A better approximation of weight [out, in] than `quantized`, which it starts from; of the same scheme.

    hessian: [in, in], any positive multiple of the sum of x xᵀ over calibration inputs. sweeps: how often to
    go over all groups and columns; each costs about as much as gptq. damping: this part of the diagonal's
    mean is added to the diagonal, against fitting few inputs too closely. fit_scales: scales change as well,
    and stay exact in their stored type; zero points do not.

    Never worse: no step increases the damped error, and rows whose undamped one has increased are returned as
    they were. ValueError: shapes or types do not fit, a value is not finite, or an argument is negative.
    """
    check_matrix(weight, "weight", quantized.integers.shape)
    features = weight.shape[1]
    check_matrix(hessian, "hessian", (features, features))
    if sweeps < 0 or damping < 0:
        raise ValueError(f"sweeps {sweeps} and damping {damping} must not be negative")
    damped = hessian.astype(weight.dtype)
    np.einsum("ii->i", damped)[:] += weight.dtype.type(damping * np.diagonal(hessian).mean(dtype=np.float64))
    descent = _Descent(weight, damped, quantized)
    size = quantized.scheme.columns(features)
    for _ in range(sweeps):
        for start in range(0, features, size):
            end = min(start + size, features)
            if fit_scales:
                descent.fit_scale(start // size, start, end)
            for first in range(start, end, _BLOCK):
                descent.fit_integers(start // size, first, min(first + _BLOCK, end))
    result = descent.result()
    before = output_errors(weight - quantized.dequantize(weight.dtype), hessian=hessian)
    after = output_errors(weight - result.dequantize(weight.dtype), hessian=hessian)
    return result.with_rows_of(quantized, after > before)


class _Descent:
    """The state: all transposed, [in, out], so that a column is contiguous; steps and zeros [groups, out]."""

    def __init__(self, weight: Floats, hessian: Floats, quantized: QuantizedWeight) -> None:
        self._start = quantized
        self._hessian = hessian
        self._integers = np.ascontiguousarray(quantized.integers.T)
        self._steps = np.ascontiguousarray(quantized.scale.T.astype(weight.dtype))
        self._zeros = np.zeros_like(self._steps)
        if quantized.zero is not None:
            self._zeros[:] = quantized.zero.T
        self._errors = np.ascontiguousarray((weight - quantized.dequantize(weight.dtype)).T)

    def fit_scale(self, group: int, start: int, end: int) -> None:
        """The best scale of a group of each row, rounded to its type, wherever that reduces the error."""
        part = slice(start, end)
        levels = self._integers[part] - self._zeros[group]
        curvature = np.einsum("ij,ij->j", levels, self._hessian[part, part] @ levels)
        slope = np.einsum("ij,ij->j", levels, self._hessian[part] @ self._errors)
        old = self._steps[group]
        usable = curvature > 0
        best = old + np.divide(slope, curvature, out=np.zeros_like(old), where=usable)
        with np.errstate(over="ignore"):
            new = best.astype(self._start.scale.dtype).astype(old.dtype)
        change = new - old
        better = usable & (new > 0) & np.isfinite(new)
        better &= change * (change * curvature - 2 * slope) < 0
        change = np.where(better, change, 0)
        self._steps[group] += change
        # Exactly the stored value, which the sum may miss by an ulp.
        self._steps[group][better] = new[better]
        levels *= change
        self._errors[part] -= levels

    def fit_integers(self, group: int, start: int, end: int) -> None:
        """The best integer of each weight of columns start … end, all others being as they are."""
        pulls = self._hessian[start:end] @ self._errors
        changes = np.zeros_like(pulls)
        step = self._steps[group]
        scheme = self._start.scheme
        for column in range(start, end):
            curvature = self._hessian[column, column]
            if curvature <= 0:
                continue
            done = column - start
            pull = pulls[done]
            if done:
                pull -= self._hessian[column, start:column] @ changes[:done]
            old = self._integers[column]
            new = pull / (curvature * step)
            new += old
            np.rint(new, out=new)
            np.clip(new, scheme.low, scheme.high, out=new)
            changes[done] = (new - old) * step
            self._integers[column] = new
            self._errors[column] -= changes[done]

    def result(self) -> QuantizedWeight:
        scale = np.ascontiguousarray(self._steps.T).astype(self._start.scale.dtype)
        return QuantizedWeight(
            self._start.scheme, np.ascontiguousarray(self._integers.T), scale, self._start.zero
        )
