"""Run any MindIR graph of supported primitives."""

from __future__ import annotations

import ctypes
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from . import _native
from .errors import InvalidArgumentError, MindirLLMError, UnsupportedError

_NUMPY = {
    _native.DTYPE[f"MLLM_DTYPE_{name.upper()}"]: np.dtype(name)
    for name in (
        *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
        *("float16", "float32", "float64"),
    )
}
_NAMES = {value: name.removeprefix("MLLM_DTYPE_").lower() for name, value in _native.DTYPE.items()}
_CODES = {dtype: code for code, dtype in _NUMPY.items()}


@dataclass(frozen=True)
class TensorInfo:
    """A graph's input or output. A dimension that is known only when the graph runs is -1."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}{list(self.shape)}"


class Graph:
    """A loaded MindIR file.

    threads: None takes one per physical core. Raises BundleError for a file that cannot be read and
    UnsupportedError naming the primitive and node that the engine lacks. One thread at a time may use it.

        with Graph("model.mindir") as graph:
            outputs = graph.run({"x": np.ones((1, 4), np.float32)})
    """

    def __init__(self, path: str | os.PathLike[str], threads: int | None = None) -> None:
        self.path = os.fspath(path)
        self._library = _native.library()
        handle = ctypes.c_void_p()
        self._library.mllm_graph_open(_native.path_bytes(path), check_threads(threads), ctypes.byref(handle))
        self._handle: ctypes.c_void_p | None = handle
        self._close = weakref.finalize(self, self._library.mllm_graph_close, handle)
        self.inputs: tuple[TensorInfo, ...] = self._infos("input")

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """Names, dtypes and shapes of the results; a shape may have -1 before the first run."""
        return self._infos("output")

    def run(
        self, inputs: Mapping[str, Any] | Sequence[Any], /
    ) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[Any]]]:
        """Run once. inputs: arrays by name, or in graph order. Returns the outputs by name, as copies.

        Arrays must have the declared dtype and shape: nothing is cast, except Python ints (and lists of
        them), which take the declared dtype. InvalidArgumentError names the input that does not fit.
        """
        handle = self._open()
        arrays = [
            self._convert(info, value)
            for info, value in zip(self.inputs, self._in_order(inputs), strict=True)
        ]
        given = (_native.Tensor * max(len(arrays), 1))()
        shapes = [(ctypes.c_int64 * max(array.ndim, 1))(*array.shape) for array in arrays]
        for tensor, info, array, dims in zip(given, self.inputs, arrays, shapes, strict=False):
            tensor.name = info.name.encode()
            tensor.dtype = _CODES[array.dtype]
            tensor.rank = array.ndim
            tensor.dims = dims
            tensor.data = array.ctypes.data
            tensor.nbytes = array.nbytes
        count = self._library.mllm_graph_output_count(handle)
        results = (_native.Tensor * max(count, 1))()
        self._library.mllm_graph_run(handle, given, len(arrays), results, count)
        return {result.name.decode(): _copy(result) for result in results[:count]}

    def describe(self) -> dict[str, Any]:
        """{"inputs", "outputs": [{name, dtype, dims}], "operators": {primitive: count}, "parameters": [{name,
        dtype, dims, nbytes}], "plan": {operator: count after fusion}, "arena_bytes": n}."""
        text = ctypes.c_char_p()
        self._library.mllm_graph_describe(self._open(), ctypes.byref(text))
        return json.loads((text.value or b"").decode("utf-8"))

    def close(self) -> None:
        """Free the graph's memory; using it afterwards is an InvalidArgumentError."""
        self._handle = None
        self._close()

    def __enter__(self) -> Graph:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Graph({self.path!r}, inputs=[{', '.join(map(str, self.inputs))}])"

    def _open(self) -> ctypes.c_void_p:
        if self._handle is None:
            raise InvalidArgumentError(f"{self.path}: the graph is closed")
        return self._handle

    def _infos(self, which: str) -> tuple[TensorInfo, ...]:
        count = getattr(self._library, f"mllm_graph_{which}_count")(self._open())
        infos = []
        for index in range(count):
            tensor = _native.Tensor()
            getattr(self._library, f"mllm_graph_{which}")(self._open(), index, ctypes.byref(tensor))
            shape = tuple(tensor.dims[axis] for axis in range(tensor.rank))
            infos.append(TensorInfo(tensor.name.decode(), _NAMES[tensor.dtype], shape))
        return tuple(infos)

    def _in_order(self, inputs: Mapping[str, Any] | Sequence[Any]) -> list[Any]:
        expected = [info.name for info in self.inputs]
        if isinstance(inputs, Mapping):
            unknown = [name for name in inputs if name not in expected]
            missing = [name for name in expected if name not in inputs]
            if unknown or missing:
                problem = f"has no input {unknown[0]!r}" if unknown else f"needs input {missing[0]!r}"
                raise InvalidArgumentError(
                    f"{self.path}: the graph {problem}; its inputs: {', '.join(expected)}"
                )
            return [inputs[name] for name in expected]
        if isinstance(inputs, np.ndarray) or not isinstance(inputs, Sequence):
            raise InvalidArgumentError(
                f"{self.path}: inputs must be a dict or a list of arrays, not {type(inputs).__name__}"
            )
        if len(inputs) != len(expected):
            raise InvalidArgumentError(
                f"{self.path}: {len(inputs)} inputs given, the graph takes {len(expected)}: "
                + ", ".join(expected)
            )
        return list(inputs)

    def _convert(self, info: TensorInfo, value: Any) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
        where = f"{self.path}: input {info.name!r}"
        code = _native.DTYPE[f"MLLM_DTYPE_{info.dtype.upper()}"]
        if code not in _NUMPY:
            raise UnsupportedError(f"{where}: numpy has no dtype {info.dtype}")
        wanted = _NUMPY[code]
        is_array = isinstance(value, np.ndarray | np.generic)
        try:
            array = np.asarray(value)
        except ValueError:
            raise InvalidArgumentError(f"{where}: not an array: {value!r}") from None
        if not is_array and array.dtype.kind in "iu":
            limits = np.iinfo(wanted) if wanted.kind in "iu" else None
            if limits is not None and array.size:
                low, high = int(array.min()), int(array.max())
                if low < limits.min or high > limits.max:
                    wrong = low if low < limits.min else high
                    raise InvalidArgumentError(
                        f"{where}: {wrong} does not fit {info.dtype} [{limits.min}, {limits.max}]"
                    )
            if wanted.kind != "b" and (array.astype(wanted) == array).all():
                array = array.astype(wanted)
        if array.dtype != wanted:
            raise InvalidArgumentError(f"{where}: dtype is {array.dtype}, the graph takes {info.dtype}")
        if len(array.shape) != len(info.shape) or any(
            want not in (-1, have) for want, have in zip(info.shape, array.shape, strict=True)
        ):
            raise InvalidArgumentError(
                f"{where}: shape is {list(array.shape)}, the graph takes {list(info.shape)}"
            )
        return np.asarray(array, order="C")


def check_threads(threads: int | None) -> int:
    """The C interface's thread count: 0 lets the engine choose."""
    if threads is None:
        return 0
    if isinstance(threads, bool) or not isinstance(threads, int) or not 1 <= threads <= 1024:
        raise InvalidArgumentError(f"threads is {threads!r}, expected None or an int in [1, 1024]")
    return threads


def _copy(tensor: _native.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[Any]]:
    dtype = _NUMPY.get(tensor.dtype)
    name = tensor.name.decode()
    if dtype is None:
        raise UnsupportedError(
            f"output {name!r}: numpy has no dtype {_NAMES.get(tensor.dtype, tensor.dtype)}"
        )
    array = np.empty(tuple(tensor.dims[axis] for axis in range(tensor.rank)), dtype)
    if array.nbytes != tensor.nbytes:
        raise MindirLLMError(f"output {name!r}: {tensor.nbytes} bytes for {array.dtype}{list(array.shape)}")
    if array.nbytes:
        ctypes.memmove(array.ctypes.data, tensor.data, array.nbytes)
    return array
