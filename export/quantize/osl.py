"""OutlierSuppressionLite: SmoothQuant whose strength alpha is searched for each matrix.

The method of MindSpore Golden Stick (OutliersSuppressionType.OUTLIER_SUPPRESSION_LITE): the smoothing factors
of Xiao et al. 2022 (arXiv:2211.10438) for each alpha of a grid, and of those the alpha whose quantized
product comes closest to the float one on calibration inputs. There the error is measured behind the whole
decoder layer; here behind the layers that read these inputs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.activation import dequantize_tokens, quantize_tokens, static_grid
from mindir_llm.export.quantize.rtn import round_to_nearest
from mindir_llm.export.quantize.scaling import ScaleSearch, channel_maxima, scale_inputs, search, weight_error
from mindir_llm.export.quantize.scheme import Floats, WeightScheme, check_matrix, row_blocks
from mindir_llm.export.quantize.smoothquant import smoothing_factors

__all__ = ["ALPHAS", "quantized_inputs", "search_smoothing"]

ALPHAS = tuple(i / 20 for i in range(21))

_ACTIVATIONS = (None, "static", "static-asymmetric", "dynamic")


def search_smoothing(
    weights: Sequence[Floats],
    activation_max: Floats,
    scheme: WeightScheme,
    *,
    activations: str | None = None,
    hessian: Floats | None = None,
    inputs: Floats | None = None,
    input_range: tuple[Floats, Floats] | None = None,
    alphas: Sequence[float] = ALPHAS,
    ties: NDArray[np.intp] | None = None,
) -> ScaleSearch:
    """The smoothing factors of the alpha, or of none at all, that makes the squared output error least.

    weights: [out, in] of the layers that read the same inputs; their errors are added. activation_max:
    largest magnitude of each input, [in]. activations: what inputs become, int8 with a 'static' grid for the
    tensor, a 'static-asymmetric' one, or a 'dynamic' one for each token; None: they stay float. Exactly one
    of hessian [in, in] (sum of x xᵀ, only where activations stay float) and inputs [n, in], some calibration
    inputs. input_range: least and largest value of each input, [in] each, in all of calibration, for the
    static grids; by default those of `inputs`. ties: as for smoothing_factors.

    ValueError: shapes or types do not fit, a value is not finite, an argument is none of these.
    """
    if activations not in _ACTIVATIONS:
        raise ValueError(f"activations: {activations}, must be one of {', '.join(map(str, _ACTIVATIONS))}")
    weight_max = channel_maxima(weights)
    features = len(weight_max)
    if hessian is not None:
        check_matrix(hessian, "hessian", (features, features))
    if inputs is not None:
        check_matrix(inputs, "inputs", (None, features))
    if (hessian is None) == (inputs is None):
        raise ValueError("give either hessian or inputs")
    if activations is not None and inputs is None:
        raise ValueError("quantized activations need inputs, a hessian does not do")
    if input_range is not None:
        for values, name in zip(input_range, ("least input", "largest input"), strict=True):
            check_matrix(values, name, (features,))

    if activations is None or inputs is None:

        def error_of(factors: NDArray[np.float64]) -> float:
            return weight_error(weights, factors, scheme, hessian=hessian, inputs=inputs)

    else:
        outputs = [inputs.astype(weight.dtype, copy=False) @ weight.T for weight in weights]

        def error_of(factors: NDArray[np.float64]) -> float:
            error = 0.0
            rounded = quantized_inputs(inputs, factors, activations, input_range)
            for weight, expected in zip(weights, outputs, strict=True):
                seen = rounded.astype(weight.dtype, copy=False)
                for rows in row_blocks(len(weight)):
                    quantized = round_to_nearest(scale_inputs(weight[rows], factors), scheme)
                    difference = seen @ quantized.dequantize(weight.dtype).T
                    difference -= expected[:, rows]
                    np.square(difference, out=difference)
                    error += float(difference.sum(dtype=np.float64))
            return error

    candidates = ((alpha, smoothing_factors(activation_max, weight_max, alpha, ties)) for alpha in alphas)
    return search(candidates, features, error_of)


def quantized_inputs(
    inputs: Floats,
    factors: NDArray[np.float64],
    activations: str,
    input_range: tuple[Floats, Floats] | None = None,
) -> Floats:
    """What a quantized product sees of inputs [n, in]: divided by factors [in], rounded, and back in float.
    Arguments are as for search_smoothing."""
    scaled = inputs / factors.astype(inputs.dtype)
    if activations == "dynamic":
        return dequantize_tokens(*quantize_tokens(scaled))
    least, largest = (inputs.min(axis=0), inputs.max(axis=0)) if input_range is None else input_range
    grid = static_grid(
        float((least / factors).min()), float((largest / factors).max()), activations == "static"
    )
    return grid.dequantize(grid.quantize(scaled), inputs.dtype)
