"""Read a Hugging Face checkpoint folder: safetensors, one file or sharded, a few rows of one tensor at a
time.

Files are read with readinto, not mapped: mapped pages count as memory of the process until the kernel takes
them back, and an export must not look as large as its checkpoint.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mindir_llm.export.errors import ExportError

__all__ = ["Checkpoint", "TensorEntry", "read_json"]

_ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_MAX_HEADER_BYTES = 100_000_000  # the limit of the safetensors format itself
_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class TensorEntry:
    """Where one tensor lies: file, 'F32', 'F16' or 'BF16' (or a type we do not read), shape, first byte,
    bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    length: int


class Checkpoint:
    """The tensors of a checkpoint folder by name."""

    def __init__(self, folder: Path, tensors: Mapping[str, TensorEntry]) -> None:
        self.folder = folder
        self.tensors = dict(tensors)

    @classmethod
    def open(cls, folder: str | Path) -> Checkpoint:
        """Read the headers of all shards; ExportError names the file that is missing or damaged."""
        folder = Path(folder)
        if not folder.is_dir():
            raise ExportError(
                f"{folder}: not a folder; give the folder that holds config.json and the safetensors files"
            )
        index = folder / "model.safetensors.index.json"
        if index.exists():
            return cls(folder, _read_sharded(folder, index))
        single = folder / "model.safetensors"
        if not single.exists():
            hint = ""
            if any(folder.glob("*.bin")) or any(folder.glob("*.pth")):
                hint = "; PyTorch files are not read, convert the checkpoint to safetensors"
            raise ExportError(
                f"{folder}: neither model.safetensors nor model.safetensors.index.json found{hint}"
            )
        return cls(folder, _read_header(single))

    def check_readable(self, name: str, shape: tuple[int, ...]) -> None:
        """ExportError unless the tensor has this shape and a type that is read."""
        entry = self.tensors[name]
        if entry.dtype not in _ITEM_BYTES:
            raise ExportError(
                f"{entry.file}: tensor {name} has type {entry.dtype}"
                f" (supported: {', '.join(sorted(_ITEM_BYTES))})"
            )
        if entry.shape != shape:
            raise ExportError(
                f"{entry.file}: tensor {name} has shape {list(entry.shape)},"
                f" config.json asks for {list(shape)}"
            )

    def blocks(self, name: str, dtype: DTypeLike, multiple: int = 1) -> Iterator[NDArray[Any]]:
        """The tensor's rows (first axis) in order, as many at a time as fit a small buffer, converted to
        dtype.

        dtype: float32 or float16. multiple: all blocks but the last have a multiple of this many rows.
        ExportError: the file ends early, or a value is not finite in dtype.
        """
        entry = self.tensors[name]
        row_items = math.prod(entry.shape[1:])
        row_bytes = row_items * _ITEM_BYTES[entry.dtype]
        rows = entry.shape[0]
        step = max(1, _BLOCK_BYTES // max(1, row_items * 4) // multiple) * multiple
        with entry.file.open("rb", buffering=0) as file:
            file.seek(entry.offset)
            for start in range(0, rows, step):
                count = min(step, rows - start)
                raw = np.empty(count * row_bytes, np.uint8)
                _read_exactly(file, raw, entry.file, name)
                block = _convert(raw, entry.dtype, np.dtype(dtype))
                if not np.all(np.isfinite(block)):
                    reason = "values that are not finite; the checkpoint is damaged"
                    if np.all(np.isfinite(_convert(raw, entry.dtype, np.dtype(np.float32)))):
                        reason = "values that float16 cannot hold; export with --dtype float32"
                    raise ExportError(f"{entry.file}: tensor {name} has {reason}")
                yield block.reshape(count, *entry.shape[1:])

    def integers(self, name: str, dtype: DTypeLike) -> NDArray[Any]:
        """A whole tensor of integers, as quantized checkpoints have them: int32 (I32) or int8 (I8).

        ExportError: it is missing, of another type, or the file ends early.
        """
        wanted = np.dtype(dtype)
        entry = self.tensors.get(name)
        if entry is None:
            raise ExportError(f"{self.folder}: missing tensors: {name}")
        stored = f"I{wanted.itemsize * 8}"
        if entry.dtype != stored:
            raise ExportError(f"{entry.file}: tensor {name} has type {entry.dtype}, expected {stored}")
        if math.prod(entry.shape) * wanted.itemsize != entry.length:
            raise ExportError(f"{entry.file}: damaged safetensors header at tensor {name}")
        raw = np.empty(entry.length, np.uint8)
        with entry.file.open("rb", buffering=0) as file:
            file.seek(entry.offset)
            _read_exactly(file, raw, entry.file, name)
        return raw.view(wanted.newbyteorder("<")).astype(wanted, copy=False).reshape(entry.shape)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; ExportError names the file when it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ExportError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ExportError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def _convert(raw: NDArray[np.uint8], stored: str, wanted: np.dtype[Any]) -> NDArray[Any]:
    values: NDArray[Any]
    if stored == "BF16":
        # bfloat16 is the upper half of a float32.
        values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = raw.view("<f4" if stored == "F32" else "<f2")
    with np.errstate(over="ignore"):
        return values.astype(wanted, copy=False)


def _read_exactly(file: Any, buffer: NDArray[np.uint8], path: Path, name: str) -> None:
    view = buffer.data
    while view:
        count = file.readinto(view)
        if not count:
            raise ExportError(f"{path}: ends inside tensor {name}; the download is incomplete")
        view = view[count:]


def _read_sharded(folder: Path, index: Path) -> dict[str, TensorEntry]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise ExportError(f"{index}: weight_map must map tensor names to file names")
    headers: dict[str, dict[str, TensorEntry]] = {}
    tensors = {}
    for name, shard in weight_map.items():
        if shard not in headers:
            if Path(shard).name != shard:
                raise ExportError(f"{index}: tensor {name} points outside of the folder: {shard!r}")
            if not (folder / shard).exists():
                raise ExportError(f"{folder / shard}: missing, but {index.name} names it")
            headers[shard] = _read_header(folder / shard)
        if name not in headers[shard]:
            raise ExportError(f"{folder / shard}: has no tensor {name}, but {index.name} says so")
        tensors[name] = headers[shard][name]
    return tensors


def _read_header(path: Path) -> dict[str, TensorEntry]:
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        header_bytes = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, size - 8):
            raise ExportError(f"{path}: not a safetensors file, or cut off in its header")
        try:
            header = json.loads(file.read(header_bytes))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise ExportError(f"{path}: damaged safetensors header: {error}") from None
    if not isinstance(header, dict):
        raise ExportError(f"{path}: damaged safetensors header: not an object")
    data_start = 8 + header_bytes
    return {
        name: _entry(path, name, fields, data_start, size)
        for name, fields in header.items()
        if name != "__metadata__"
    }


def _entry(path: Path, name: str, fields: Any, data_start: int, file_size: int) -> TensorEntry:
    try:
        dtype, shape, (begin, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
        numbers = [*shape, begin, end]
        valid = isinstance(dtype, str) and all(type(n) is int and n >= 0 for n in numbers) and begin <= end
    except (TypeError, KeyError, ValueError):
        valid = False
    if not valid:
        raise ExportError(f"{path}: damaged safetensors header at tensor {name}")
    if data_start + end > file_size:
        raise ExportError(f"{path}: ends before tensor {name}; the download is incomplete")
    if dtype in _ITEM_BYTES and math.prod(shape) * _ITEM_BYTES[dtype] != end - begin:
        raise ExportError(f"{path}: tensor {name} has {end - begin} bytes, which is not {dtype} {shape}")
    return TensorEntry(path, dtype, tuple(shape), data_start + begin, end - begin)
