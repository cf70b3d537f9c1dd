"""Calibration text: a file in, sequences of token ids out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mindir_llm.export.calibrate.settings import CalibrationSettings
from mindir_llm.export.errors import ExportError

__all__ = ["Tokenizer", "load_sequences", "spread"]

_SEPARATOR = "<|endoftext|>"
_JSONL = (".jsonl", ".ndjson")


class Tokenizer(Protocol):
    """What is needed of a tokenizer; those of mindir_llm.tokenizer have it."""

    def encode(self, text: str) -> list[int]:
        """Token ids, with the BOS that the model wants."""

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]]) -> Any:
        """Token ids of a conversation."""


def load_sequences(
    path: str | Path, tokenizer: Tokenizer | None, settings: CalibrationSettings
) -> list[NDArray[np.int32]]:
    """Token ids of at most settings.samples sequences, each int32 [n], 2 <= n <= settings.length.

    Texts between <|endoftext|> and lines of JSONL are one sequence each, cut off where they are too long. A
    text file without <|endoftext|> is split at blank lines, and paragraphs that follow each other are put
    together as far as they fit: paragraphs alone are too short to show what long contexts do. Of more
    sequences than are asked for, those are taken that spread evenly over the file. tokenizer: None can do
    where all lines of JSONL are of token ids. ExportError: the file is not UTF-8 or JSONL, or holds no text.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ExportError(f"{path}: not UTF-8: {error.reason} at byte {error.start}") from None
    # Each sequence is tokenized only if it is taken: a calibration text may be much larger than is needed.
    readers: list[Callable[[], list[int]]]
    if path.suffix.lower() in _JSONL:
        readers = [_reader_of(path, record, tokenizer) for record in _records(path, text)]
    elif tokenizer is None:
        raise ExportError(
            f'{path}: without a tokenizer, it must be .jsonl with "token_ids" (lists of integers)'
        )
    elif _SEPARATOR in text:
        pieces = [piece.strip() for piece in text.split(_SEPARATOR)]
        readers = [_text_reader(piece, tokenizer) for piece in pieces if piece]
    else:
        readers = [_text_reader(piece, tokenizer) for piece in _packed(text, tokenizer, settings.length)]
    sequences = []
    for index in spread(len(readers), settings.samples):
        ids = readers[index]()[: settings.length]
        if len(ids) > 1:
            sequences.append(np.asarray(ids, np.int32))
    if not sequences:
        raise ExportError(f"{path}: holds no text to calibrate with")
    return sequences


def spread(count: int, wanted: int) -> list[int]:
    """At most `wanted` of 0 … count-1, in order and evenly far apart."""
    if count <= wanted:
        return list(range(count))
    return [index * count // wanted for index in range(wanted)]


def _text_reader(text: str, tokenizer: Tokenizer) -> Callable[[], list[int]]:
    return lambda: tokenizer.encode(text)


def _reader_of(path: Path, record: str | list[Any], tokenizer: Tokenizer | None) -> Callable[[], list[int]]:
    if isinstance(record, list) and isinstance(record[0], int):
        return lambda: record
    if tokenizer is None:
        raise ExportError(f'{path}: without a tokenizer, each line must be of "token_ids" (a list)')
    if isinstance(record, str):
        return _text_reader(record, tokenizer)
    return lambda: list(tokenizer.apply_chat_template(record))


def _records(path: Path, text: str) -> Iterator[str | list[Any]]:
    """The text, the messages or the token ids of every line of JSONL."""
    # Not splitlines(): JSON strings may hold other line separators.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ExportError(f"{path}: line {number} is not JSON: {error}") from None
        value = None
        if isinstance(record, dict):
            value = record.get("text", record.get("messages", record.get("token_ids")))
        if isinstance(value, str):
            if value.strip():
                yield value
        elif (
            isinstance(value, list)
            and value
            and any(
                # Not isinstance: a boolean is an int.
                all(type(item) is kind for item in value)
                for kind in (dict, int)
            )
        ):
            yield value
        else:
            raise ExportError(
                f'{path}: line {number} has neither "text" (a string) nor "messages" (a list of objects) nor'
                ' "token_ids" (a list of integers)'
            )


def _packed(text: str, tokenizer: Tokenizer, length: int) -> list[str]:
    """Paragraphs, those that follow each other joined up to about `length` tokens."""
    pieces: list[str] = []
    current: list[str] = []
    tokens = 0
    for paragraph in re.split(r"\n[ \t\r]*\n", text):
        paragraph = paragraph.strip()
        if not paragraph:
            continue
        count = len(tokenizer.encode(paragraph))
        if current and tokens + count > length:
            pieces.append("\n\n".join(current))
            current, tokens = [], 0
        current.append(paragraph)
        tokens += count
    if current:
        pieces.append("\n\n".join(current))
    return pieces
