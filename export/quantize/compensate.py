"""Weights that make up for what the layers before have lost, to be quantized in place of the original ones.

Layers behind quantized ones see inputs x̂ instead of x. Their quantizer had better aim at what the float layer
puts out on x: minimize Σ |W x - V x̂|² over V, for which plain GPTQ takes W itself. Li et al., "GPTAQ:
Efficient Finetuning-Free Quantization for Asymmetric Calibration", 2025, arXiv:2504.02692, put the difference
into GPTQ's corrections; here it is solved for before, so that any quantizer of V by the Hessian of x̂ can
follow: by least squares, V = W + W D (H + λI)⁻¹ with H = Σ x̂ x̂ᵀ and D = Σ (x - x̂) x̂ᵀ.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.factor import HessianFactor
from mindir_llm.export.quantize.scheme import Floats, check_matrix

__all__ = ["compensate", "correct", "correction_of"]


# Rows that are solved for at once. They do not know of each other, and temporaries are of float64.
_ROWS = 2048


def compensate(
    weight: Floats,
    hessian: Floats,
    drift: Floats,
    *,
    share: float = 1.0,
    damping: float = 0.01,
    factor: HessianFactor | None = None,
) -> Floats:
    """V for weight [out, in], in its type.

    hessian: [in, in], the sum of x̂ x̂ᵀ. drift: [in, in], the sum of x̂ (x - x̂)ᵀ over the same inputs. damping:
    λ in parts of the Hessian's mean diagonal; it keeps V close to the weight where inputs say little. share:
    how much of the way to go from the weight (0) to V (1). On these inputs, no share between makes the
    outputs worse than the weight does. factor: of this Hessian with this damping, in any order, where another
    layer of the same inputs has needed it before. ValueError: shapes or types do not fit, a value is not
    finite, or an argument is out of range.
    """
    check_matrix(weight, "weight")
    _check(weight.shape[1], damping, share, hessian=hessian, drift=drift)
    if share == 0 or not np.any(drift):
        return weight
    if factor is None:
        factor = HessianFactor(hessian, damping)
    result = weight.copy()
    for start in range(0, len(weight), _ROWS):
        rows = slice(start, start + _ROWS)
        change = factor.solve(drift @ weight[rows].T.astype(drift.dtype))
        result[rows] += (share * change.T).astype(weight.dtype)
    return result


def correction_of(
    hessian: Floats, drift: Floats, *, damping: float = 0.01, factor: HessianFactor | None = None
) -> NDArray[np.float64]:
    """D (H + λI)⁻¹, [in, in], for correct(). Arguments and errors are those of compensate()."""
    _check(len(hessian), damping, hessian=hessian, drift=drift)
    if factor is None:
        factor = HessianFactor(hessian, damping)
    # As drift is Σ x̂ (x - x̂)ᵀ, D is its transpose, and so is this of what is solved for.
    return factor.solve(drift).T


def correct(weight: Floats, correction: Floats, *, share: float = 1.0) -> Floats:
    """What compensate() finds for weight [out, in], from correction_of() its inputs [in, in]: less work where
    layers of the same inputs have more outputs, together, than inputs. share and errors: as there."""
    check_matrix(weight, "weight")
    _check(weight.shape[1], share=share, correction=correction)
    result = weight @ correction.astype(weight.dtype, copy=False)
    result *= weight.dtype.type(share)
    result += weight
    return result


def _check(features: int, damping: float = 0.0, share: float = 1.0, **matrices: Floats) -> None:
    for name, matrix in matrices.items():
        check_matrix(matrix, name, (features, features))
    if damping < 0 or not 0 <= share <= 1:
        raise ValueError(f"damping {damping} must not be negative, and share {share} from 0 to 1")
