"""The engine's tokenizer: text to ids and back, with no package but the engine's library."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_char_p, c_int32, c_size_t, c_void_p
from pathlib import Path
from threading import Lock
from typing import Any

from mindir_llm.tokenizer import Tokenizer, TokenizerError
from mindir_llm.tokenizer.base import utf8
from mindir_llm.tokenizer.config import read_chat_template

from . import _native
from .chat_template import render_chat_template
from .errors import MindirLLMError
from .native_backend import _Handle

_BYTE, _SPECIAL = _native.TOKEN_KIND["MLLM_TOKEN_BYTE"], _native.TOKEN_KIND["MLLM_TOKEN_SPECIAL"]


class EngineTokenizer(Tokenizer):
    """The tokenizer of a bundle, of a checkpoint's folder, or in a file of its own.

    Reads SentencePiece models, byte-level tokenizer.json, vocab.json with merges.txt, and tiktoken ranks.
    TokenizerError names the file that is missing, damaged or not supported. Threads may share it.
    """

    chat_renderer = staticmethod(render_chat_template)

    chat_renderer = staticmethod(render_chat_template)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._library = _native.library()
        self._lock = Lock()  # the engine's object serves one thread at a time
        raw = c_void_p()
        with _tokenizer_errors():
            self._library.mllm_tokenizer_open(_native.path_bytes(path), byref(raw))
        self._object = _Handle("tokenizer", raw, self._library.mllm_tokenizer_close)
        info = _native.TokenizerInfo()
        self._library.mllm_tokenizer_get_info(self._object._handle, byref(info))
        self.vocab_size = info.vocab_size
        self.bos_token_id = None if info.bos_token_id < 0 else info.bos_token_id
        self.eos_token_id = None if info.eos_token_id < 0 else info.eos_token_id
        self.adds_bos_token, self.adds_eos_token = bool(info.add_bos_token), bool(info.add_eos_token)
        self.stop_token_ids = tuple(
            self._ids(lambda ids, n: self._library.mllm_tokenizer_stop_tokens(self._object._handle, ids, n))
        )
        self.chat_template = _chat_template(Path(path))
        self._special_ids: list[int] | None = None

    @property
    def all_special_ids(self) -> list[int]:
        if self._special_ids is None:
            self._special_ids = [
                index for index in range(self.vocab_size) if self._token(index)[0] == _SPECIAL
            ]
        return self._special_ids

    def spelling(self, token_id: int) -> str:
        return self._token(token_id)[1].decode("utf-8", "replace")

    def token_bytes(self, token_id: int) -> bytes:
        """What the token adds to a text; not always whole characters."""
        return self._token(token_id)[2]

    def token_text(self, token_id: int) -> str:
        kind, piece, text = self._token(token_id)
        if kind == _BYTE and text[0] >= 0x80:
            return piece.decode("utf-8", "replace")
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(chr(byte) if byte < 0x80 else f"<0x{byte:02X}>" for byte in text)

    def token_id(self, spelling: str) -> int | None:
        """The id that the vocabulary spells so."""
        content = utf8(spelling)
        found = c_int32()
        self._library.mllm_tokenizer_find(self._object._handle, content, len(content), byref(found))
        return None if found.value < 0 else found.value

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        return self.encode_bytes(utf8(text), add_special_tokens, parse_special)

    def encode_bytes(
        self, text: bytes, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[int]:
        """`encode` of UTF-8; bytes that are none count as U+FFFD."""
        flags = _native.ENCODE_FLAGS
        chosen = flags["MLLM_ENCODE_ADD_SPECIAL"] if add_special_tokens else 0
        chosen |= flags["MLLM_ENCODE_PARSE_SPECIAL"] if parse_special else 0
        return self._ids(
            lambda ids, n: self._library.mllm_tokenizer_encode(
                self._object._handle, text, len(text), chosen, ids, n
            )
        )

    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        ids = [_id(token_id) for token_id in token_ids]
        content = (c_int32 * len(ids))(*ids)
        with self._lock, _tokenizer_errors():
            return _text(
                lambda text, n: self._library.mllm_tokenizer_decode(
                    self._object._handle, content, len(ids), int(skip_special_tokens), text, n
                )
            )

    def stream_decoder(self, skip_special_tokens: bool = True) -> EngineDecoder:
        return EngineDecoder(self._object, skip_special_tokens)

    def close(self) -> None:
        """Free its memory now."""
        self._object.close()

    def _token(self, token_id: int) -> tuple[int, bytes, bytes]:
        """Kind, spelling, text."""
        token = _native.Token()
        with self._lock, _tokenizer_errors():
            self._library.mllm_tokenizer_token(self._object._handle, _id(token_id), byref(token))
            return token.kind, _bytes(token, "piece"), _bytes(token, "text")

    def _ids(self, call: Callable[[Any, Any], Any]) -> list[int]:
        ids, count = POINTER(c_int32)(), c_size_t()
        with self._lock, _tokenizer_errors():
            call(byref(ids), byref(count))
            return ids[: count.value] if count.value else []


class EngineDecoder:
    """Feed ids with `push`; the parts that come back, followed by `flush`, are the decoded text.

    Never returns part of a character.
    """

    def __init__(self, tokenizer: _Handle, skip_special_tokens: bool) -> None:
        self._library = _native.library()
        raw = c_void_p()
        self._library.mllm_decoder_create(tokenizer._handle, int(skip_special_tokens), byref(raw))
        self._object = _Handle("decoder", raw, self._library.mllm_decoder_close, keep=tokenizer)

    def push(self, token_id: int) -> str:
        """The text that this id completes, often "" within a character of several tokens."""
        with _tokenizer_errors():
            return _text(
                lambda text, n: self._library.mllm_decoder_push(self._object._handle, _id(token_id), text, n)
            )

    def flush(self) -> str:
        """End of input: what is left of an unfinished character, as U+FFFD."""
        return _text(lambda text, n: self._library.mllm_decoder_flush(self._object._handle, text, n))


@contextmanager
def _tokenizer_errors() -> Iterator[None]:
    try:
        yield
    except MindirLLMError as error:
        raise TokenizerError(str(error)) from None


def _id(value: Any) -> int:
    """An id for the engine; what no int32 can hold is outside of every vocabulary."""
    index = int(value)
    return index if -(2**31) <= index < 2**31 else -1


def _text(call: Callable[[Any, Any], Any]) -> str:
    text, size = c_char_p(), c_size_t()
    call(byref(text), byref(size))
    return ctypes.string_at(ctypes.cast(text, c_void_p).value or 0, size.value).decode("utf-8")


def _bytes(token: _native.Token, name: str) -> bytes:
    """A string of a structure, NULs within it included."""
    address = c_void_p.from_buffer(token, getattr(_native.Token, name).offset).value
    return ctypes.string_at(address, getattr(token, f"{name}_bytes")) if address else b""


def _chat_template(path: Path) -> str | None:
    if not path.is_dir():
        return None
    manifest = path / "manifest.json"
    if manifest.is_file():
        return json.loads(manifest.read_text(encoding="utf-8"))["tokenizer"]["chat_template"]
    return read_chat_template(path)
