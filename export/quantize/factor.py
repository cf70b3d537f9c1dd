"""A factor of a damped Hessian, made once for all layers that read the same inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindir_llm.export.quantize.scheme import Floats, check_matrix

__all__ = ["HessianFactor"]

_DAMPING_STEPS = 4
# Columns of the factor that are found at once.
_BLOCK = 256


class HessianFactor:
    """H + damping = U Uᵀ with U upper triangular, where columns are taken in the order of rounding.

    GPTQ's corrections and the least squares of compensation both come from it. It is one float64 matrix of
    the Hessian's size.
    """

    def __init__(self, hessian: Floats, damping: float = 0.01, desc_act: bool = False) -> None:
        """hessian: [in, in], any positive multiple of the sum of x xᵀ over calibration inputs. damping: this
        part of the diagonal's mean is added to the diagonal, and ten times as much, up to three times over,
        where the Hessian is not positive definite even so. desc_act: order by falling diagonal.

        ValueError: shape or type do not fit, a value is not finite, a diagonal entry is negative, or the
        Hessian is not positive definite however damped.
        """
        check_matrix(hessian, "hessian", (len(hessian),) * 2)
        if damping < 0:
            raise ValueError(f"damping: {damping}, must not be negative")
        diagonal = np.diagonal(hessian)
        if np.any(diagonal < 0):
            raise ValueError(f"hessian has a negative diagonal entry, at {int(np.argmin(diagonal))}")
        self.order: NDArray[np.intp] = (
            np.argsort(-diagonal, kind="stable") if desc_act else np.arange(len(hessian))
        )
        # A lower Cholesky factor of H in reverse order is, reversed, an upper one of H.
        self._backwards = self.order[::-1]
        self._lower = self._factorize(hessian, damping)

    def _factorize(self, hessian: Floats, damping: float) -> NDArray[np.float64]:
        original = np.diagonal(hessian)[self._backwards].astype(np.float64)
        # All inputs were zero: nothing to correct by, as with any other multiple of the identity.
        step = float(original.mean()) or 1.0
        for attempt in range(_DAMPING_STEPS):
            damped = hessian[np.ix_(self._backwards, self._backwards)].astype(np.float64, copy=False)
            diagonal = np.einsum("ii->i", damped)
            diagonal[:] = original + step * damping * 10**attempt
            # A dead column needs something on its diagonal even without damping.
            diagonal[diagonal == 0] = step
            try:
                _cholesky(damped)
            except np.linalg.LinAlgError:
                continue
            return damped
        raise ValueError(
            f"hessian is not positive definite, even with {damping * 10 ** (_DAMPING_STEPS - 1):g} of its"
            " diagonal's mean added"
        )

    def feedback(self, dtype: DTypeLike) -> Floats:
        """F of H = (I + F) D (I + F)ᵀ, [in, in] in the order of rounding, with ones instead of zeros on its
        diagonal and noise-free zeros below."""
        upper = self._lower[::-1, ::-1]
        scale = np.diagonal(upper)
        result = np.empty(upper.shape, dtype)
        for start in range(0, len(upper), _BLOCK):
            rows = slice(start, start + _BLOCK)
            result[rows] = upper[rows] / scale
        return result

    def solve(self, right: Floats) -> NDArray[np.float64]:
        """(H + damping)⁻¹ times right [in, n], in the order of the inputs."""
        lower = self._lower
        found = right[self._backwards].astype(np.float64, copy=False)
        starts = range(0, len(lower), _BLOCK)
        for start in starts:
            part = slice(start, start + _BLOCK)
            found[part] -= lower[part, :start] @ found[:start]
            found[part] = np.linalg.solve(lower[part, part], found[part])
        for start in reversed(starts):
            part = slice(start, start + _BLOCK)
            found[part] -= lower[start + _BLOCK :, part].T @ found[start + _BLOCK :]
            found[part] = np.linalg.solve(lower[part, part].T, found[part])
        result = np.empty_like(found)
        result[self._backwards] = found
        return result


def _cholesky(matrix: NDArray[np.float64]) -> None:
    """Replace a symmetric matrix, of which only the lower triangle is read, by its lower Cholesky factor.

    By blocks of columns, for the sake of speed: nearly all is products of matrices, while LAPACK's own takes
    several times as long on one thread. LinAlgError: the matrix is not positive definite.
    """
    for start in range(0, len(matrix), _BLOCK):
        end = min(start + _BLOCK, len(matrix))
        panel = matrix[start:, start:end]
        panel -= matrix[start:, :start] @ matrix[start:end, :start].T
        corner = np.linalg.cholesky(panel[: end - start])
        panel[: end - start] = corner
        panel[end - start :] = panel[end - start :] @ np.linalg.inv(corner).T
        matrix[:start, start:end] = 0
