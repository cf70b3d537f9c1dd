"""Coordinate descent on a quantized matrix: integers and scales are changed one by one while that helps.

Behdin et al., "QuantEase: Optimization-based Quantization for Language Models", 2023, arXiv:2309.01885, for
the integers; scales are refitted by least squares in between. GPTQ decides on each column once, before it
knows what later ones can make up for; this goes over them again.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mindir_llm.export.quantize.measure import output_errors
from mindir_llm.export.quantize.scheme import Floats, QuantizedWeight, check_matrix

__all__ = ["refine"]

# Columns whose pulls come from one product with the whole Hessian, wide enough for it to be fast; and those
# whose changes reach each other one by one.
_BLOCK = 256
_LEAF = 64


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
    go over all groups and columns; two cost about as much as gptq. damping: this part of the diagonal's mean
    is added to the diagonal, against fitting few inputs too closely. fit_scales: scales change as well, and
    stay exact in their stored type; zero points do not.

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
    for _ in range(sweeps):
        descent.sweep(fit_scales)
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

    def sweep(self, fit_scales: bool) -> None:
        """Go over all groups and columns once.

        A column's pull is its row of the Hessian times the errors, half the slope of the squared output
        error. A block's are computed at once, and follow every change within the block.
        """
        size = self._start.scheme.columns(len(self._errors))
        for start, end in self._blocks(size):
            if fit_scales and size > _BLOCK and start % size == 0:
                group = slice(start, min(start + size, len(self._errors)))
                self._fit_scale(start // size, group, self._hessian[group] @ self._errors)
            pulls = self._hessian[start:end] @ self._errors
            for first in range(start, end, size):
                last = min(first + size, end)
                number = first // size
                if fit_scales and size <= _BLOCK:
                    group = slice(first, last)
                    changes = self._fit_scale(number, group, pulls[first - start : last - start])
                    pulls[first - start :] -= self._hessian[first:end, group] @ changes
                for leaf in range(first, last, _LEAF):
                    part = slice(leaf, min(leaf + _LEAF, last))
                    changes = self._fit_integers(number, part, pulls[leaf - start : part.stop - start])
                    pulls[part.stop - start :] -= self._hessian[part.stop : end, part] @ changes

    def _blocks(self, size: int) -> Iterator[tuple[int, int]]:
        """Ranges of at most _BLOCK columns: whole groups, or parts of a larger one."""
        features = len(self._errors)
        whole = size if size > _BLOCK else _BLOCK // size * size
        for first in range(0, features, whole):
            last = min(first + whole, features)
            for start in range(first, last, _BLOCK):
                yield start, min(start + _BLOCK, last)

    def _fit_scale(self, group: int, part: slice, pulls: Floats) -> Floats:
        """The best scale of a group of each row, rounded to its type, wherever that reduces the error; by how
        much the quantized weights have changed."""
        levels = self._integers[part] - self._zeros[group]
        curvature = np.einsum("ij,ij->j", levels, self._hessian[part, part] @ levels)
        slope = np.einsum("ij,ij->j", levels, pulls)
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
        return levels

    def _fit_integers(self, group: int, part: slice, pulls: Floats) -> Floats:
        """The best integer of each weight of some columns, all others being as they are; by how much the
        quantized weights have changed. `pulls` are used up."""
        changes = np.zeros_like(pulls)
        step = self._steps[group]
        scheme = self._start.scheme
        for done, column in enumerate(range(part.start, part.stop)):
            curvature = self._hessian[column, column]
            if curvature <= 0:
                continue
            pull = pulls[done]
            if done:
                pull -= self._hessian[column, part.start : column] @ changes[:done]
            old = self._integers[column]
            new = pull / (curvature * step)
            new += old
            np.rint(new, out=new)
            np.clip(new, scheme.low, scheme.high, out=new)
            changes[done] = (new - old) * step
            self._integers[column] = new
            self._errors[column] -= changes[done]
        return changes

    def result(self) -> QuantizedWeight:
        scale = np.ascontiguousarray(self._steps.T).astype(self._start.scale.dtype)
        return QuantizedWeight(
            self._start.scheme, np.ascontiguousarray(self._integers.T), scale, self._start.zero
        )
