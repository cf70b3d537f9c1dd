"""SmoothQuant: outliers of activations are moved into the weights, to make both easy to quantize.

Xiao et al., "SmoothQuant: Accurate and Efficient Post-Training Quantization for Large Language Models", 2022,
arXiv:2211.10438.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.scaling import bounded, check_statistic, tied_maximum
from mindir_llm.export.quantize.scheme import Floats

__all__ = ["smoothing_factors"]


def smoothing_factors(
    activation_max: Floats, weight_max: Floats, alpha: float = 0.5, ties: NDArray[np.intp] | None = None
) -> NDArray[np.float64]:
    """s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), [in]: what inputs are to be divided by (equation 4).

    activation_max: largest magnitude of each input in calibration, [in]. weight_max: that of its weights,
    over all layers that read it, [in] (channel_maxima). alpha: from 0, all difficulty in activations, to 1,
    all in the weights. ties: inputs of the same number get one factor (grouped_query_ties).

    Inputs or weights that are all zero get factor 1; factors are kept within 1e-4 … 1e4. ValueError: alpha is
    out of range, sizes differ, or a statistic is negative or not finite.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha: {alpha}, must be within 0 … 1")
    features = len(activation_max)
    check_statistic(activation_max, "activation_max", features)
    check_statistic(weight_max, "weight_max", features)
    activations, weights = tied_maximum(activation_max, ties), tied_maximum(weight_max, ties)
    live = (activations > 0) & (weights > 0)
    ones = np.ones(features)
    powers = np.power(activations, alpha, out=ones.copy(), where=live)
    factors = powers / np.power(weights, 1 - alpha, out=ones, where=live)
    return bounded(factors, live)
