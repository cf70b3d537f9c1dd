"""Weights that make up for what the layers before have lost, to be quantized in place of the original ones.

Layers behind quantized ones see inputs x̂ instead of x. Their quantizer had better aim at what the float layer
puts out on x: minimize Σ |W x - V x̂|² over V, for which plain GPTQ takes W itself. Li et al., "GPTAQ:
Efficient Finetuning-Free Quantization for Asymmetric Calibration", 2025, arXiv:2504.02692, put the difference
into GPTQ's corrections; here it is solved for before, so that any quantizer of V by the Hessian of x̂ can
follow: by least squares, V = W + W D (H + λI)⁻¹ with H = Σ x̂ x̂ᵀ and D = Σ (x - x̂) x̂ᵀ.
"""

from __future__ import annotations

import numpy as np

from mindir_llm.export.quantize.scheme import Floats, check_matrix

__all__ = ["compensate"]


def compensate(
    weight: Floats, hessian: Floats, drift: Floats, *, share: float = 1.0, damping: float = 0.01
) -> Floats:
    """V for weight [out, in], in its type.

    hessian: [in, in], the sum of x̂ x̂ᵀ. drift: [in, in], the sum of x̂ (x - x̂)ᵀ over the same inputs. damping:
    λ in parts of the Hessian's mean diagonal; it keeps V close to the weight where inputs say little. share:
    how much of the way to go from the weight (0) to V (1). On these inputs, no share between makes the
    outputs worse than the weight does. ValueError: shapes or types do not fit, a value is not finite, or an
    argument is out of range.
    """
    check_matrix(weight, "weight")
    features = weight.shape[1]
    check_matrix(hessian, "hessian", (features, features))
    check_matrix(drift, "drift", (features, features))
    if damping < 0 or not 0 <= share <= 1:
        raise ValueError(f"damping {damping} must not be negative, and share {share} from 0 to 1")
    if share == 0 or not np.any(drift):
        return weight
    damped = hessian.astype(np.float64)
    diagonal = np.einsum("ii->i", damped)
    step = float(diagonal.mean())
    diagonal += damping * step
    # An input that was always zero changes nothing, and with zero damping nothing else keeps it from that.
    diagonal[diagonal == 0] = step or 1.0
    pull = drift.astype(weight.dtype, copy=False) @ weight.T
    try:
        change = np.linalg.solve(damped, pull.astype(np.float64))
    except np.linalg.LinAlgError:
        raise ValueError("hessian is singular; a damping above 0 helps") from None
    return weight + (share * change.T).astype(weight.dtype)
