"""Stream weights from a checkpoint through the quantizer into the data files that both graphs share."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantize.packing import pack_int4
from mindir_llm.export.quantize.rtn import quantize_groups, quantize_rows
from mindir_llm.export.trace import ExternalData, ParameterSpec
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["FileRecord", "Progress", "WeightPlan", "lay_out", "write_weights"]

# MindSpore's own layout of external data: byte 0 tells the byte order (1: little-endian), tensors are aligned
# to 64.
_HEADER = b"\x01" + bytes(63)
_ALIGNMENT = 64
_MAX_FILE_BYTES = 1_000_000_000
_WEIGHT, _SCALE = ".weight", "_scale"
_INT4 = ("uint8", "qint4x2")

Progress = Callable[[int, int], None]
"""Called with bytes written so far and bytes in total."""


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of a finished file."""

    size: int
    sha256: str


class WeightPlan:
    """Where the value of every parameter of the graphs comes from, checked against the checkpoint
    beforehand."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        parameters: Sequence[ParameterSpec],
        computed: Mapping[str, NDArray[Any]],
        tied_to: Mapping[str, str],
        quantization: Mapping[str, WeightQuantization] | None = None,
    ) -> None:
        """computed: parameters that are not in the checkpoint. tied_to: parameter -> the tensor it is taken
        from although the checkpoint may have one of its own name. quantization: of linear layers by module
        name. ExportError lists missing and unexpected tensors."""
        self._checkpoint = checkpoint
        self._quantization = dict(quantization or {})
        self._computed = dict(computed)
        specs = {spec.name: spec for spec in parameters}
        self._quantized = {name for name in specs if name + _SCALE in specs}
        scales = {name + _SCALE for name in self._quantized}
        self._source = {
            name: tied_to.get(name, name) for name in specs if name not in computed and name not in scales
        }
        # A scale directly follows its weight: it is known only when all rows have been quantized.
        self.parameters: list[ParameterSpec] = []
        for spec in parameters:
            if spec.name not in scales:
                self.parameters.append(spec)
                if spec.name in self._quantized:
                    self.parameters.append(specs[spec.name + _SCALE])
        self._check(specs, ignored=set(tied_to))

    def _check(self, specs: Mapping[str, ParameterSpec], ignored: set[str]) -> None:
        tensors = self._checkpoint.tensors
        needed = set(self._source.values())
        missing = sorted(needed - tensors.keys())
        if missing:
            raise ExportError(f"{self._checkpoint.folder}: missing tensors: {_list(missing)}")
        # Old checkpoints carry the rotary frequencies, which config.json determines.
        unexpected = sorted(
            name for name in tensors.keys() - needed - ignored if not name.endswith(".rotary_emb.inv_freq")
        )
        if unexpected:
            raise ExportError(
                f"{self._checkpoint.folder}: unexpected tensors, which config.json gives no place:"
                f" {_list(unexpected)}"
            )
        for name, source in self._source.items():
            self._checkpoint.check_readable(source, _source_shape(specs[name]))
        for name, values in self._computed.items():
            if values.shape != specs[name].shape or str(values.dtype) != specs[name].dtype:
                raise AssertionError(
                    f"{name}: computed {values.dtype}{values.shape}, graph has {specs[name]}"
                )

    def values(self) -> Iterator[tuple[ParameterSpec, Iterable[NDArray[Any]]]]:
        """Each parameter in writing order with the blocks that make it up; consume them in order."""
        scales: list[NDArray[Any]] = []
        for spec in self.parameters:
            if spec.name in self._computed:
                yield spec, [self._computed[spec.name]]
            elif spec.name in self._quantized:
                scales = []
                quantize = self._quantize_int4 if spec.dtype in _INT4 else self._quantize_int8
                yield spec, quantize(spec, self._scale_dtype(spec.name), scales)
            elif spec.name.removesuffix(_SCALE) in self._quantized:
                yield spec, scales
            else:
                yield spec, self._checkpoint.blocks(self._source[spec.name], spec.dtype)

    def _scale_dtype(self, name: str) -> str:
        return next(spec.dtype for spec in self.parameters if spec.name == name + _SCALE)

    def _quantize_int8(
        self, spec: ParameterSpec, scale_dtype: str, scales: list[NDArray[Any]]
    ) -> Iterator[NDArray[np.int8]]:
        """int8 blocks of a weight; their scales are appended to `scales`."""
        source = self._source[spec.name]
        first = 0
        for block in self._checkpoint.blocks(source, np.float32):
            with self._named(source, first):
                quantized, scale = quantize_rows(block, scale_dtype)
            scales.append(scale)
            first += len(block)
            yield quantized

    def _quantize_int4(
        self, spec: ParameterSpec, scale_dtype: str, scales: list[NDArray[Any]]
    ) -> Iterator[NDArray[np.uint8]]:
        """Packed bytes [in, out/2] of a weight; its scales [groups, out] are appended to `scales`.

        Its channels are columns here but rows of the checkpoint, so every block goes into every row of the
        result: unlike int8, which streams, all of it is in memory at once (an eighth of its float32 size).
        """
        source = self._source[spec.name]
        channels, inputs = _source_shape(spec)
        linear = self._quantization[spec.name.removesuffix(_WEIGHT)]
        packed = np.empty(spec.shape, np.uint8)
        transposed = np.empty((linear.groups(inputs), channels), scale_dtype)
        first = 0
        for block in self._checkpoint.blocks(source, np.float32, multiple=2):
            end = first + len(block)
            with self._named(source, first):
                quantized, scale = quantize_groups(block, linear.group_size, scale_dtype)
            packed[:, first // 2 : end // 2] = pack_int4(quantized, biased=spec.dtype == "uint8")
            transposed[:, first:end] = scale.T
            first = end
        scales.append(transposed)
        yield packed

    @contextlib.contextmanager
    def _named(self, source: str, first_row: int) -> Iterator[None]:
        """Say of which tensor, and from which row on, a quantizer's complaint is."""
        try:
            yield
        except ValueError as error:
            file = self._checkpoint.tensors[source].file
            rows = f" (counted from row {first_row})" if first_row else ""
            raise ExportError(f"{file}: tensor {source} cannot be quantized: {error}{rows}") from None


def _source_shape(spec: ParameterSpec) -> tuple[int, ...]:
    """Dimensions in the checkpoint; int4 weights are stored transposed and in pairs."""
    if spec.dtype not in _INT4:
        return spec.shape
    inputs, pairs = spec.shape
    return (2 * pairs, inputs)


def lay_out(
    parameters: Sequence[ParameterSpec], max_file_bytes: int = _MAX_FILE_BYTES
) -> dict[str, ExternalData]:
    """Give each parameter, in order, its aligned place in weights/data_0, data_1, …

    A file ends before the tensor that would take it past max_file_bytes; a larger tensor gets a file of its
    own.
    """
    places: dict[str, ExternalData] = {}
    number, end = 0, len(_HEADER)
    for spec in parameters:
        length = spec.nbytes
        if end > len(_HEADER) and end + length > max_file_bytes:
            number, end = number + 1, len(_HEADER)
        places[spec.name] = ExternalData(f"weights/data_{number}", end, length)
        end += length + -length % _ALIGNMENT
    return places


def write_weights(
    plan: WeightPlan, places: Mapping[str, ExternalData], folder: Path, progress: Progress | None = None
) -> dict[str, FileRecord]:
    """Write all data files under `folder`; returns a record per file, by location.

    Memory: a few blocks of one tensor; of int4, two whole tensors. OSError when the disk is full; the caller
    removes the folder.
    """
    total = sum(place.length for place in places.values())
    written = 0
    records: dict[str, FileRecord] = {}
    current: _DataFile | None = None
    try:
        for spec, blocks in plan.values():
            place = places[spec.name]
            if current is None or current.location != place.location:
                if current is not None:
                    records[current.location] = current.finish()
                current = _DataFile(folder, place.location)
            current.pad_to(place.offset)
            for block in blocks:
                current.write(np.ascontiguousarray(block, block.dtype.newbyteorder("<")).data.cast("B"))
                written += block.nbytes
                if progress is not None:
                    progress(written, total)
            if current.size != place.offset + place.length:
                raise AssertionError(
                    f"{spec.name}: wrote {current.size - place.offset} bytes of {place.length}"
                )
        if current is not None:
            records[current.location] = current.finish()
    finally:
        if current is not None:
            current.close()
    return records


class _DataFile:
    """A file being written, hashed on the way."""

    def __init__(self, folder: Path, location: str) -> None:
        self.location = location
        path = folder / location
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("xb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0
        self.write(_HEADER)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        self._hash.update(view)
        self.size += len(view)
        while view:
            view = view[self._file.write(view) :]

    def pad_to(self, offset: int) -> None:
        self.write(bytes(offset - self.size))

    def finish(self) -> FileRecord:
        """Pad to the alignment, so that the last tensor can be read in whole blocks too, and flush to the
        disk."""
        self.pad_to(self.size + -self.size % _ALIGNMENT)
        os.fsync(self._file.fileno())
        self.close()
        return FileRecord(self.size, self._hash.hexdigest())

    def close(self) -> None:
        self._file.close()


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
