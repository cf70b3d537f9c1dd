"""How wrong a quantized matrix is, measured by what its layer puts out.

A Hessian is here, as in the papers, the sum of x xᵀ over calibration inputs x, or any positive multiple of
it: the squared error of a linear layer's output is a quadratic form of it. Errors are in the unit of what is
given.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.scheme import Floats, check_matrix

__all__ = [
    "WeightErrors",
    "add_to_hessian",
    "hessian_error",
    "output_errors",
    "relative_output_error",
    "scale_hessian",
]

_BLOCK = 1024


def add_to_hessian(hessian: Floats, inputs: Floats) -> None:
    """Add the sum of x xᵀ over inputs [n, in] to hessian [in, in], in place and in its type.

    A Hessian streams through this, batch by batch, from zeros. ValueError: shapes do not fit, or an input is
    not finite.
    """
    check_matrix(inputs, "inputs", (None, len(hessian)))
    inputs = inputs.astype(hessian.dtype, copy=False)
    hessian += inputs.T @ inputs


def scale_hessian(hessian: Floats, factors: Floats) -> None:
    """Make of the Hessian [in, in] in place that of inputs that have been divided by factors [in]."""
    inverse = (1 / factors).astype(hessian.dtype)
    hessian *= inverse[:, None]
    hessian *= inverse


def output_errors(
    difference: Floats, *, hessian: Floats | None = None, inputs: Floats | None = None
) -> NDArray[np.float64]:
    """Squared error of each output channel, [out], where weights differ by difference [out, in].

    Exactly one of hessian [in, in] and inputs [n, in]: d H dᵀ, or |X d|², for each row d; they are the same
    if H = XᵀX. Inputs are cheaper where they are fewer than the features. Products are in the type of
    `difference`, sums in float64.
    """
    if (hessian is None) == (inputs is None):
        raise ValueError("give either hessian or inputs")
    if hessian is not None:
        return _quadratic_form(difference, hessian)
    assert inputs is not None
    outputs = inputs.astype(difference.dtype, copy=False) @ difference.T
    np.square(outputs, out=outputs)
    return outputs.sum(axis=0, dtype=np.float64)


def _quadratic_form(difference: Floats, hessian: Floats) -> NDArray[np.float64]:
    """d H dᵀ of each row, from the blocks of H on its diagonal and twice those above, for half the work."""
    result = np.zeros(len(difference))
    for start in range(0, len(hessian), _BLOCK):
        part = slice(start, start + _BLOCK)
        ours = difference[:, part]
        columns = hessian[: start + _BLOCK, part].astype(difference.dtype, copy=False)
        product = 2 * (difference[:, :start] @ columns[:start]) + ours @ columns[start:]
        product *= ours
        result += product.sum(axis=1, dtype=np.float64)
    # Rounding may leave a tiny negative number of a form that is positive.
    return np.maximum(result, 0)


def hessian_error(weight: Floats, approximation: Floats, hessian: Floats) -> float:
    """tr((W - Ŵ) H (W - Ŵ)ᵀ), which GPTQ minimizes. weight, approximation: [out, in]; hessian: [in, in]."""
    check_matrix(weight, "weight")
    check_matrix(approximation, "approximation", weight.shape)
    check_matrix(hessian, "hessian", (weight.shape[1],) * 2)
    return float(output_errors(weight - approximation, hessian=hessian).sum())


def relative_output_error(
    weight: Floats, approximation: Floats, *, hessian: Floats | None = None, inputs: Floats | None = None
) -> float:
    """Root of the squared output error over the squared output; 0 where both are 0. Arguments as above."""
    check_matrix(weight, "weight")
    check_matrix(approximation, "approximation", weight.shape)
    error = float(output_errors(weight - approximation, hessian=hessian, inputs=inputs).sum())
    whole = float(output_errors(weight, hessian=hessian, inputs=inputs).sum())
    return math.sqrt(error / whole) if whole else (math.inf if error else 0.0)


class WeightErrors:
    """Relative errors of matrices, by name, that pass in blocks of rows: root of the sum of squared errors
    over that of the weights."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, name: str, weight: Floats, approximation: Floats) -> None:
        """Rows of a matrix, [n, in] both."""
        error, whole = self._sums.get(name, (0.0, 0.0))
        error += _squared(weight - approximation)
        self._sums[name] = (error, whole + _squared(weight))

    def relative(self) -> dict[str, float]:
        """0 where error and weights both are."""
        return {
            name: math.sqrt(error / whole) if whole else (math.inf if error else 0.0)
            for name, (error, whole) in self._sums.items()
        }


def _squared(values: Floats) -> float:
    return float(np.einsum("oi,oi->o", values, values).sum(dtype=np.float64))
