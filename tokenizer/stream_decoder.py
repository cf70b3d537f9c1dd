"""Token ids to text, one id at a time."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

SPACE = "\u2581"  # SentencePiece's visible blank
REPLACEMENT = "\ufffd"


class PieceKind(Enum):
    TEXT = "text"
    BYTE = "byte"  # byte fallback: one byte of a UTF-8 character
    SPECIAL = "special"  # <s>, </s>, <unk>: markers, not text


@dataclass(frozen=True)
class Piece:
    """One vocabulary entry; `text` still has the visible blanks, `byte` is set for byte pieces."""

    kind: PieceKind
    text: str
    byte: int = 0


class PieceTable(Protocol):
    """What the decoder asks of a tokenizer."""

    strips_first_space: bool  # the blank that encoding puts before the text is taken away again
    strips_all_first_spaces: bool  # … and so is every further blank piece before the first text

    def piece(self, token_id: int) -> Piece: ...


class StreamDecoder:
    """Feed ids with `push`; what comes back, put together and followed by `flush`, is the decoded text.

    Never returns part of a character: bytes wait until their character is complete or can no longer become
    one; each byte that belongs to no character becomes U+FFFD, as in SentencePiece itself. With special
    tokens shown, the text after one starts anew: "<s>", "▁I" reads "<s>I".
    """

    def __init__(self, pieces: PieceTable, skip_special_tokens: bool = True) -> None:
        self._pieces = pieces
        self._skip_special = skip_special_tokens
        self._bytes = b""
        self._at_start = pieces.strips_first_space

    def push(self, token_id: int) -> str:
        """The text that this id completes, often "" within a character of several byte pieces."""
        piece = self._pieces.piece(token_id)
        if piece.kind is PieceKind.BYTE:
            self._bytes += bytes([piece.byte])
            return self._take_bytes(final=False)
        text = self._take_bytes(final=True)
        if piece.kind is PieceKind.SPECIAL:
            if not self._skip_special:
                text += piece.text
                self._at_start = self._pieces.strips_first_space
            return text
        body = piece.text
        if self._at_start and body.startswith(SPACE):
            body = body[1:]
            self._at_start = self._pieces.strips_all_first_spaces
        if body:
            self._at_start = False
        return text + body.replace(SPACE, " ")

    def flush(self) -> str:
        """End of input: the bytes of an unfinished character, as U+FFFD each."""
        return self._take_bytes(final=True)

    def _take_bytes(self, final: bool) -> str:
        text = ""
        while self._bytes:
            try:
                decoded, used = codecs.utf_8_decode(self._bytes, "strict", final)
            except UnicodeDecodeError as error:
                decoded = self._bytes[: error.start].decode("utf-8") + REPLACEMENT
                used = error.start + 1
            if not used:
                break
            text += decoded
            self._bytes = self._bytes[used:]
        if text:
            self._at_start = False
        return text
