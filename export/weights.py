"""Stream weights from a checkpoint through the quantizer into the data files that both graphs share."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantize.activation import ActivationGrid
from mindir_llm.export.quantize.measure import WeightErrors
from mindir_llm.export.quantize.packing import LinearPacker, pack_int4
from mindir_llm.export.quantize.rtn import quantize_groups, quantize_rows, round_to_nearest
from mindir_llm.export.quantize.scheme import QuantizedWeight, WeightScheme, join_rows
from mindir_llm.export.trace import ExternalData, ParameterSpec
from mindir_llm.models.quantization import WeightQuantization

__all__ = ["FileRecord", "LayerSource", "Progress", "WeightPlan", "lay_out", "write_weights"]

# MindSpore's own layout of external data: byte 0 tells the byte order (1: little-endian), tensors are aligned
# to 64.
_HEADER = b"\x01" + bytes(63)
_ALIGNMENT = 64
_MAX_FILE_BYTES = 1_000_000_000
_WEIGHT, _BIAS, _SCALE = ".weight", ".bias", "_scale"
# What else a quantized linear layer may have, in writing order.
_PARTS = (_WEIGHT, ".weight_scale", ".weight_zero", ".input_order", ".input_scale", ".input_zero")
_INT4 = ("uint8", "qint4x2")

Progress = Callable[[int, int], None]
"""Called with bytes written so far and bytes in total."""


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and SHA-256 (hex) of a finished file."""

    size: int
    sha256: str


class LayerSource(Protocol):
    """Linear layers whose integers come from elsewhere than rounding the checkpoint's weights to nearest.

    names: their module names. parameters: those whose values the checkpoint does not have under their names
    (weights and biases of checkpoints that are quantized already); tensors: those that it has instead.
    """

    names: Collection[str]
    parameters: Collection[str]
    tensors: Collection[str]

    def linear(self, name: str) -> tuple[QuantizedWeight, ActivationGrid | None]:
        """Integers [out, in], and the static grid of the layer's inputs if it has one."""

    def input_order(self, name: str) -> NDArray[np.int32]:
        """Of a layer that is reordered: which input each column of its integers is of, [in]."""

    def bias(self, name: str) -> NDArray[np.float32]:
        """Of a layer whose bias is among `parameters`."""

    def row_divisors(self, module: str) -> NDArray[np.float64] | None:
        """What float values of a norm or linear layer (rows of a weight, a bias) are divided by, [out]."""

    def column_factors(self, module: str) -> NDArray[np.float64] | None:
        """What columns of a float weight are multiplied with, [in]."""


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
        layers: LayerSource | None = None,
        target: str = "cpu",
        errors: WeightErrors | None = None,
    ) -> None:
        """computed: parameters that are not in the checkpoint. tied_to: parameter -> the tensor it is taken
        from although the checkpoint may have one of its own name. quantization: of linear layers by module
        name; those that `layers` does not have are rounded to nearest, and measured with `errors`, by module
        name, while they are. target: of the graphs. ExportError lists missing and unexpected tensors."""
        self._checkpoint = checkpoint
        self._errors = errors
        self._target = target
        self._layers = layers
        self._quantization = dict(quantization or {})
        self._computed = dict(computed)
        self._specs = specs = {spec.name: spec for spec in parameters}
        self._quantized = {name for name in specs if name + _SCALE in specs}
        # Other parts directly follow their weight: they are known only when all rows have been quantized.
        parts = {
            name: [other for part in _PARTS[1:] if (other := name.removesuffix(_WEIGHT) + part) in specs]
            for name in self._quantized
        }
        # Biases that are part of sums of integers: of layers whose inputs have a static grid.
        biases = [f"{name[: -len('.input_scale')]}{_BIAS}" for name in specs if name.endswith(".input_scale")]
        for name in biases:
            parts[name.removesuffix(_BIAS) + _WEIGHT].append(name)
        self._bias_source = {name: name for name in biases if name in checkpoint.tensors}
        followers = {name for others in parts.values() for name in others}
        own = set() if layers is None else set(layers.parameters)
        self._source = {
            name: tied_to.get(name, name)
            for name in specs
            if name not in computed and name not in followers and name not in own
        }
        self.parameters: list[ParameterSpec] = []
        for spec in parameters:
            if spec.name not in followers:
                self.parameters.append(spec)
                self.parameters += [specs[name] for name in parts.get(spec.name, [])]
        ignored = set(tied_to) | self._bias_source.keys()
        self._check(specs, ignored | (set() if layers is None else set(layers.tensors)))

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
            self._checkpoint.check_readable(source, self._source_shape(specs[name]))
        for name, source in self._bias_source.items():
            self._checkpoint.check_readable(source, specs[name].shape)
        for name, values in self._computed.items():
            if values.shape != specs[name].shape or str(values.dtype) != specs[name].dtype:
                raise AssertionError(
                    f"{name}: computed {values.dtype}{values.shape}, graph has {specs[name]}"
                )

    def values(self) -> Iterator[tuple[ParameterSpec, Iterable[NDArray[Any]]]]:
        """Each parameter in writing order with the blocks that make it up; consume them in order."""
        scales: list[NDArray[Any]] = []
        stored: dict[str, NDArray[Any]] = {}
        provided = set() if self._layers is None else set(self._layers.names)
        for spec in self.parameters:
            module = spec.name.removesuffix(_WEIGHT)
            if spec.name in self._computed:
                yield spec, [self._computed[spec.name]]
            elif spec.name in stored:
                yield spec, [stored.pop(spec.name)]
            elif spec.name in self._quantized and module in provided:
                assert self._layers is not None
                stored = self._stored(module, *self._layers.linear(module))
                yield spec, [stored.pop(spec.name)]
            elif spec.name in self._quantized:
                linear = self._quantization.get(module)
                if linear is not None and (not linear.symmetric or (linear.bits == 8 and linear.group_size)):
                    stored = self._stored(module, self._rounded(spec, linear), None)
                    yield spec, [stored.pop(spec.name)]
                else:
                    scales = []
                    quantize = self._quantize_int4 if spec.dtype in _INT4 else self._quantize_int8
                    yield spec, quantize(spec, self._specs[spec.name + _SCALE].dtype, scales)
            elif spec.name.removesuffix(_SCALE) in self._quantized:
                yield spec, scales
            else:
                yield spec, self._float_blocks(spec)

    def _float_blocks(self, spec: ParameterSpec) -> Iterable[NDArray[Any]]:
        """A parameter that stays float, with factors of other layers' inputs folded in."""
        layers = self._layers
        if layers is None:
            return self._checkpoint.blocks(self._source[spec.name], spec.dtype)
        module = spec.name.rpartition(".")[0]
        if spec.name in layers.parameters:
            bias = layers.bias(module)
            if bias.shape != spec.shape:
                raise ExportError(f"{spec.name}: shape {list(bias.shape)}, expected {list(spec.shape)}")
            return [bias.astype(spec.dtype)]
        rows, columns = layers.row_divisors(module), layers.column_factors(module)
        if len(spec.shape) == 1:
            columns = None
        if rows is None and columns is None:
            return self._checkpoint.blocks(self._source[spec.name], spec.dtype)
        return self._folded(spec, rows, columns)

    def _folded(
        self, spec: ParameterSpec, rows: NDArray[np.float64] | None, columns: NDArray[np.float64] | None
    ) -> Iterator[NDArray[Any]]:
        first = 0
        for block in self._checkpoint.blocks(self._source[spec.name], np.float32):
            values = block.astype(np.float64)
            if rows is not None:
                mine = rows[first : first + len(block)]
                values /= mine if values.ndim == 1 else mine[:, None]
            if columns is not None:
                values *= columns
            first += len(block)
            with np.errstate(over="ignore"):
                result = values.astype(spec.dtype)
            if not np.all(np.isfinite(result)):
                raise ExportError(
                    f"{spec.name}: with the factors of the layer behind it, it has values that {spec.dtype}"
                    " cannot hold; export with --dtype float32"
                )
            yield result

    def _stored(
        self, module: str, weight: QuantizedWeight, grid: ActivationGrid | None
    ) -> dict[str, NDArray[Any]]:
        """The parameters that a quantized layer is stored as."""
        scale_dtype = self._specs[f"{module}{_WEIGHT}{_SCALE}"].dtype
        shape = (weight.integers.shape[0], weight.integers.shape[1])
        bias = None
        if grid is not None and f"{module}{_BIAS}" in self._bias_source:
            bias = self._float_bias(module)
        packer = LinearPacker(self._quantization[module], self._target, shape, scale_dtype, bias, grid)
        try:
            (packed,) = packer.weight([weight])
            others = packer.others()
        except ValueError as error:
            raise ExportError(f"{module}: cannot be stored: {error}") from None
        found = {f"{module}{_WEIGHT}": packed, **{f"{module}.{name}": v for name, v in others.items()}}
        if self._quantization[module].reordered:
            assert self._layers is not None
            found[f"{module}.input_order"] = self._layers.input_order(module)
        for name, values in found.items():
            if values.shape != self._specs[name].shape:
                raise AssertionError(f"{name}: have {values.shape}, graph has {self._specs[name]}")
        return found

    def _float_bias(self, module: str) -> NDArray[np.float64]:
        """A bias that goes into sums of integers."""
        name = f"{module}{_BIAS}"
        if self._layers is not None and name in self._layers.parameters:
            return self._layers.bias(module).astype(np.float64)
        blocks = self._checkpoint.blocks(self._bias_source[name], np.float32)
        bias: NDArray[np.float64] = np.concatenate(list(blocks)).astype(np.float64)
        rows = None if self._layers is None else self._layers.row_divisors(module)
        return bias if rows is None else bias / rows

    def _rounded(self, spec: ParameterSpec, linear: WeightQuantization) -> QuantizedWeight:
        """A whole weight rounded to nearest; only its integers are in memory at once."""
        source = self._source[spec.name]
        scale_dtype = self._specs[spec.name + _SCALE].dtype
        scheme = WeightScheme(linear.bits, linear.group_size, linear.symmetric, scale_dtype)
        parts: list[QuantizedWeight] = []
        first = 0
        for block in self._checkpoint.blocks(source, np.float32):
            with self._named(source, first):
                parts.append(round_to_nearest(block, scheme))
            self._measure(spec, block, parts[-1])
            first += len(block)
        return join_rows(parts)

    def _quantize_int8(
        self, spec: ParameterSpec, scale_dtype: str, scales: list[NDArray[Any]]
    ) -> Iterator[NDArray[np.int8]]:
        """int8 blocks of a weight; their scales are appended to `scales`."""
        source = self._source[spec.name]
        first = 0
        for block in self._checkpoint.blocks(source, np.float32):
            with self._named(source, first):
                quantized, scale = quantize_rows(block, scale_dtype)
            self._measure(spec, block, QuantizedWeight(WeightScheme(8), quantized, scale))
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
        channels, inputs = self._source_shape(spec)
        linear = self._quantization[spec.name.removesuffix(_WEIGHT)]
        packed = np.empty(spec.shape, np.uint8)
        transposed = np.empty((linear.groups(inputs), channels), scale_dtype)
        first = 0
        for block in self._checkpoint.blocks(source, np.float32, multiple=2):
            end = first + len(block)
            with self._named(source, first):
                quantized, scale = quantize_groups(block, linear.group_size, scale_dtype)
            self._measure(spec, block, QuantizedWeight(WeightScheme(4, linear.group_size), quantized, scale))
            packed[:, first // 2 : end // 2] = pack_int4(quantized, biased=spec.dtype == "uint8")
            transposed[:, first:end] = scale.T
            first = end
        scales.append(transposed)
        yield packed

    def _measure(self, spec: ParameterSpec, block: NDArray[np.float32], quantized: QuantizedWeight) -> None:
        if self._errors is not None:
            self._errors.add(spec.name.removesuffix(_WEIGHT), block, quantized.dequantize())

    def _source_shape(self, spec: ParameterSpec) -> tuple[int, ...]:
        """Dimensions in the checkpoint; weights with groups, or of 4 bits in pairs, are stored transposed."""
        if spec.dtype in _INT4:
            inputs, pairs = spec.shape
            return (2 * pairs, inputs)
        scale = self._specs.get(spec.name + _SCALE)
        if scale is not None and len(scale.shape) == 2 and scale.shape[1] == spec.shape[1] > 1:
            return spec.shape[::-1]
        return spec.shape

    @contextlib.contextmanager
    def _named(self, source: str, first_row: int) -> Iterator[None]:
        """Say of which tensor, and from which row on, a quantizer's complaint is."""
        try:
            yield
        except ValueError as error:
            file = self._checkpoint.tensors[source].file
            rows = f" (counted from row {first_row})" if first_row else ""
            raise ExportError(f"{file}: tensor {source} cannot be quantized: {error}{rows}") from None


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
