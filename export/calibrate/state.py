"""The state of an unfinished calibration on disk: what finished layers gave, and the hidden states behind the
last of them.

    FOLDER/state.json        which files belong together, with their sizes and hashes; replaced last
    FOLDER/step-0000.npz     arrays of one finished step (a layer, or the output layer)
    FOLDER/hidden-0000.bin   hidden states after that step; only the newest is kept
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.calibrate.rows import RowStore

__all__ = ["SavedState"]

_FORMAT = 1
_STATE = "state.json"
_READ_BYTES = 1 << 20

Arrays = dict[str, NDArray[Any]]


class SavedState:
    """The steps of one calibration that are finished, in a folder of its own."""

    def __init__(self, cache: Path, key: str) -> None:
        """cache: folder for any number of calibrations. key: hexadecimal hash of everything that decides the
        results of this one. Finds what an earlier run left; what is damaged or belongs to something else is
        left out with a warning. OSError: the folder cannot be made."""
        self._key = key
        self._folder = cache / key[:16]
        self._folder.mkdir(parents=True, exist_ok=True)
        self._files: dict[str, dict[str, Any]] = {}
        self.steps = 0
        try:
            self._load()
        except _UnusableError as error:
            warnings.warn(
                f"{self._folder}: saved calibration is not used: {error}; starting from the first layer",
                stacklevel=3,
            )
            self._files, self.steps = {}, 0

    def _load(self) -> None:
        try:
            text = (self._folder / _STATE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise _UnusableError(f"{_STATE}: {error}") from None
        try:
            state = json.loads(text)
            version, key, steps, files = (state[name] for name in ("format", "key", "steps", "files"))
            expected = {(name, int(entry["size"]), str(entry["sha256"])) for name, entry in files.items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            raise _UnusableError(f"{_STATE} is damaged") from None
        if version != _FORMAT or key != self._key:
            raise _UnusableError("it belongs to another checkpoint, text or version")
        if not isinstance(steps, int) or not {_step(step) for step in range(steps)} <= set(files):
            raise _UnusableError(f"{_STATE} is damaged")
        for name, size, digest in expected:
            path = self._folder / name
            if Path(name).name != name or not path.is_file() or path.stat().st_size != size:
                raise _UnusableError(f"{name} is missing or cut off")
            if _sha256(path) != digest:
                raise _UnusableError(f"{name} is damaged")
        self._files, self.steps = files, steps

    def arrays(self, step: int) -> Arrays:
        """What a finished step was saved with."""
        with np.load(self._folder / _step(step), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}

    def names(self, step: int) -> list[str]:
        """Names of the arrays of a finished step."""
        with np.load(self._folder / _step(step), allow_pickle=False) as archive:
            return list(archive.files)

    def array(self, step: int, name: str) -> NDArray[Any]:
        """One of them, read by itself."""
        with np.load(self._folder / _step(step), allow_pickle=False) as archive:
            array: NDArray[Any] = archive[name]
            return array

    def restore_hidden(self, stores: Sequence[RowStore]) -> None:
        """Fill in the hidden states behind the last finished step."""
        with (self._folder / _hidden(self.steps - 1)).open("rb", buffering=0) as file:
            for store in stores:
                store.fill(file)

    def save(self, arrays: Mapping[str, NDArray[Any]], hidden: Sequence[RowStore]) -> None:
        """Record the next step. hidden: the states behind it, of one network or more; none after the last.

        A run that is killed here leaves the steps before it valid. OSError: the disk.
        """
        step = self.steps
        kept = {name: entry for name, entry in self._files.items() if not name.startswith("hidden")}
        kept[_step(step)] = self._write(_step(step), lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
        if hidden:
            kept[_hidden(step)] = self._write(
                _hidden(step), lambda file: file.writelines(chain.from_iterable(s.blocks() for s in hidden))
            )
        content = {"format": _FORMAT, "key": self._key, "steps": step + 1, "files": kept}
        self._write(_STATE, lambda file: file.write(json.dumps(content, indent=1).encode()))
        for name in self._files.keys() - kept.keys():
            (self._folder / name).unlink(missing_ok=True)
        self._files, self.steps = kept, step + 1

    def _write(self, name: str, fill: Callable[[BinaryIO], object]) -> dict[str, Any]:
        """Write a file under a temporary name, flush it to the disk and rename it; returns size and hash."""
        with _temporary(self._folder, name) as path:
            with path.open("wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            entry = {"size": path.stat().st_size, "sha256": _sha256(path)}
            os.replace(path, self._folder / name)
        descriptor = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return entry


class _UnusableError(Exception):
    """Saved state that cannot be continued from."""


@contextlib.contextmanager
def _temporary(folder: Path, name: str) -> Iterator[Path]:
    descriptor, path = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
    os.close(descriptor)
    try:
        yield Path(path)
    finally:
        Path(path).unlink(missing_ok=True)


def _step(step: int) -> str:
    return f"step-{step:04d}.npz"


def _hidden(step: int) -> str:
    return f"hidden-{step:04d}.bin"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
