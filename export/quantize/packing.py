"""Quantized linear layers as targets store them: pairs of 4-bit integers, scales, zero points, biases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.quantize.activation import ActivationGrid
from mindir_llm.export.quantize.scheme import Floats, QuantizedWeight
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["LinearPacker", "input_factor", "pack_int4"]

_BIAS = 8
_SMALLEST_NORMAL, _LARGEST = 2.0**-14, 65504.0


def pack_int4(quantized: NDArray[np.int8], biased: bool) -> NDArray[np.uint8]:
    """Transpose and pack: int8 [N, K] within -8 … 7 -> bytes [K, N/2] (a view that is not contiguous).

    Byte [k, j] holds output channel 2j in its low nibble and channel 2j+1 in its high nibble. biased: nibbles
    are the integer plus 8 (0 … 15), for graphs that unpack them by arithmetic; otherwise two's complement, as
    MindIR's qint4x2. ValueError: N is odd.
    """
    if len(quantized) % 2:
        raise ValueError(f"{len(quantized)} output channels cannot be packed in pairs")
    # An offset of 8 modulo 16 is a flip of the sign bit.
    nibbles = (quantized.view(np.uint8) & 15) ^ np.uint8(_BIAS if biased else 0)
    pairs: NDArray[np.uint8] = nibbles[0::2] | (nibbles[1::2] << 4)
    return pairs.T


def input_factor(grid: ActivationGrid) -> np.float16:
    """What graphs multiply inputs with: 1 / scale as float16, the type that an NPU multiplies in.

    Graphs of both targets hold this number, and its inverse is the step that products are scaled with: a grid
    differs from the calibrated one by 0.05 % of its range at most, but never from itself.
    """
    return np.float16(np.clip(1.0 / grid.scale, _SMALLEST_NORMAL, _LARGEST))


class LinearPacker:
    """Turns one quantized linear layer into the parameters of its cell in models.cpu_ops or .ascend_ops.

        for array in packer.weight(blocks):   # blocks of rows, in order
            write(array)                      # these make up `weight`
        packer.others()                       # {"weight_scale": …, "weight_zero": …, "bias": …, …}

    Memory: int8 weights without groups pass through, block by block; others are stored by input, so all of
    the packed weight is one array.
    """

    def __init__(
        self,
        quantization: WeightQuantization,
        target: str,
        shape: tuple[int, int],
        dtype: str,
        bias: Floats | None = None,
        grid: ActivationGrid | None = None,
    ) -> None:
        """target: 'cpu' or 'ascend'. shape: outputs, inputs. dtype: of the graph's scales and biases,
        'float16' or 'float32'. bias: [outputs]. grid: of the inputs, for activations per tensor and only for
        them."""
        if (grid is not None) != (quantization.activations == "per_tensor"):
            raise ValueError("a grid belongs to activations per tensor, and only to them")
        if bias is not None and bias.shape != shape[:1]:
            raise ValueError(f"bias has shape {bias.shape}, must be {shape[:1]}")
        self._quantization = quantization
        self._is_ascend = target == "ascend"
        self._outputs, self._inputs = shape
        self._dtype = np.dtype(dtype)
        self._bias = bias
        self._grid = grid
        groups = quantization.groups(self._inputs)
        self._scale = np.empty((self._outputs, groups), self._scale_dtype)
        self._zero = None if quantization.symmetric else np.empty((self._outputs, groups), np.int8)
        self._sums = np.empty(self._outputs, np.int64)
        self._rows = 0

    @property
    def _scale_dtype(self) -> np.dtype[Any]:
        return self._dtype if self._quantization.activations == "float" else np.dtype(np.float32)

    def weight(self, blocks: Iterable[QuantizedWeight]) -> Iterator[NDArray[Any]]:
        """The arrays whose bytes, one after another, are `weight`. blocks: rows of the layer's matrix from
        the first to the last; of 4 bits each with an even number of rows. ValueError: a block does not fit
        the layer, or rows are missing at the end."""
        by_input = self._quantization.is_by_input(self._inputs)
        is_int4 = self._quantization.bits == 4
        packed: NDArray[Any] | None = None
        if by_input:
            columns = self._outputs // 2 if is_int4 else self._outputs
            packed = np.empty((self._inputs, columns), np.uint8 if is_int4 else np.int8)
        for block in blocks:
            first, last = self._rows, self._rows + len(block.integers)
            self._take(block, last)
            if packed is None:
                yield block.integers
            elif is_int4:
                packed[:, first // 2 : last // 2] = pack_int4(block.integers, biased=not self._is_ascend)
            else:
                packed[:, first:last] = block.integers.T
        if self._rows != self._outputs:
            raise ValueError(f"{self._rows} rows of {self._outputs}")
        if packed is not None:
            yield packed

    def _take(self, block: QuantizedWeight, last: int) -> None:
        scheme, wanted = block.scheme, self._quantization
        found = (scheme.bits, scheme.groups(self._inputs), scheme.symmetric, block.integers.shape[1])
        if found != (wanted.bits, wanted.groups(self._inputs), wanted.symmetric, self._inputs):
            raise ValueError(f"a block of {scheme} with {found[-1]} inputs does not fit a layer of {wanted}")
        if last > self._outputs:
            raise ValueError(f"more rows than {self._outputs}")
        scale = block.scale.astype(self._scale_dtype)
        if not np.array_equal(scale, block.scale):
            # Integers were chosen for other scales.
            raise ValueError(f"scales in {block.scale.dtype} do not fit {self._scale_dtype}")
        rows = slice(self._rows, last)
        self._scale[rows] = scale
        if self._zero is not None and block.zero is not None:
            self._zero[rows] = block.zero
        self._sums[rows] = block.integers.sum(axis=1, dtype=np.int64)
        self._rows = last

    def others(self) -> dict[str, NDArray[Any]]:
        """The other parameters, by their names within the layer, once weight() has been consumed. ValueError:
        a bias is too large for its steps."""
        if self._rows != self._outputs:
            raise ValueError("the weight comes first")
        if self._grid is not None:
            return self._with_grid(self._grid)
        values: dict[str, NDArray[Any]] = {"weight_scale": self._arrange(self._scale)}
        if self._zero is not None:
            # The NPU's operator adds.
            zero = -self._zero.astype(np.float16) if self._is_ascend else self._zero
            values["weight_zero"] = self._arrange(zero)
        if self._bias is not None:
            values["bias"] = self._bias.astype(self._dtype)
        return values

    def _arrange(self, per_group: NDArray[Any]) -> NDArray[Any]:
        """[out, groups] as the cells hold it."""
        by_input = self._quantization.is_by_input(self._inputs)
        flat = per_group.shape[1] == 1 and (self._is_ascend or self._quantization.activations != "float")
        if flat:
            return np.ascontiguousarray(per_group[:, 0])
        return np.ascontiguousarray(per_group.T if by_input else per_group)

    def _with_grid(self, grid: ActivationGrid) -> dict[str, NDArray[Any]]:
        factor = input_factor(grid)
        scale = self._scale[:, 0].astype(np.float64) / np.float64(factor)
        steps = np.zeros(self._outputs) if self._bias is None else np.rint(self._bias / scale)
        bias = steps - grid.zero * self._sums.astype(np.float64)
        limit = np.iinfo(np.int32).max
        if np.any(np.abs(bias) > limit):
            row = int(np.argmax(np.abs(bias)))
            raise ValueError(f"row {row}: the bias is {bias[row]:.3g} steps, more than {limit}")
        stored = np.float16 if self._is_ascend else np.float32
        return {
            "input_scale": np.array([factor], stored),
            "input_zero": np.array([grid.zero], stored),
            "weight_scale": scale.astype(np.float32),
            "bias": bias.astype(np.int32),
        }
