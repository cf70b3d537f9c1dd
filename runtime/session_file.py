"""Saved sessions: a line that names the format, a line of JSON, the slots' caches as the engine has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .backend import ModelInfo
from .errors import BundleError, InvalidArgumentError
from .prompts import check_ids

_FIRST_LINE = b"mindir-llm session 1\n"


def write(path: Path, slots: Sequence[tuple[list[int], bytes]]) -> None:
    """slots: token ids and cache of each. An error leaves no half-written file under `path`."""
    partial = path.with_name(path.name + ".partial")
    try:
        with open(partial, "wb") as file:
            file.write(_FIRST_LINE)
            file.write(
                json.dumps([{"tokens": ids, "bytes": len(saved)} for ids, saved in slots]).encode() + b"\n"
            )
            for _, saved in slots:
                file.write(saved)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path, info: ModelInfo) -> list[tuple[list[int], bytes]]:
    """BundleError says what is wrong with the file; the caches themselves are checked by the engine."""
    with open(path, "rb") as file:
        if file.readline(len(_FIRST_LINE)) != _FIRST_LINE:
            raise BundleError(f"{path}: not a session saved by this version")
        try:
            entries = json.loads(file.readline())
            slots = [(check_ids(str(path), one["tokens"], info.vocab_size), one["bytes"]) for one in entries]
        except (ValueError, TypeError, KeyError, RecursionError, InvalidArgumentError) as error:
            raise BundleError(f"{path}: damaged saved session: {error}") from None
        left = path.stat().st_size - file.tell()
        for ids, size in slots:
            if isinstance(size, bool) or not isinstance(size, int) or size < 0 or len(ids) > info.max_seq_len:
                raise BundleError(
                    f"{path}: damaged saved session: a slot of {len(ids)} tokens in {size!r} bytes"
                )
        if sum(size for _, size in slots) != left:
            raise BundleError(f"{path}: damaged saved session: cut off, or something was appended")
        return [(ids, file.read(size)) for ids, size in slots]
