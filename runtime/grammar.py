"""Structured output: grammars that a text must follow, and matchers that follow one text each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_int32, c_size_t, c_uint32, c_void_p
from typing import Any

import numpy as np

from . import _native
from .errors import BundleError, GrammarError, InvalidArgumentError, UnsupportedError
from .native_backend import _Handle
from .sampling import GRAMMAR_OPTIONS, SamplingParams

_KIND = dict(zip(GRAMMAR_OPTIONS, _native.GRAMMAR_KIND.values(), strict=True))


class Grammar:
    """A grammar over one tokenizer's vocabulary, compiled once; matchers of any number of texts share it.

    kind: "grammar" (GBNF, the notation of llama.cpp), "json_schema", or "json_object", which looks at no
    source. GrammarError says what is wrong with the source, and where.
    """

    def __init__(self, tokenizer: Any, kind: str, source: str = "") -> None:
        self._library = _native.library()
        content = source.encode("utf-8", "surrogatepass")
        raw = c_void_p()
        with _grammar_errors(), tokenizer._lock:
            self._library.mllm_grammar_compile(
                tokenizer._object._handle, _KIND[kind], content, len(content), byref(raw)
            )
        self._object = _Handle("grammar", raw, self._library.mllm_grammar_close)

    def matcher(self, end_tokens: Iterable[int] | None = None) -> Matcher:
        """A matcher at the beginning of a text. end_tokens: ids that end it where it may end; None takes the
        tokenizer's."""
        ids = None if end_tokens is None else list(end_tokens)
        raw = c_void_p()
        array = None if ids is None else (c_int32 * max(len(ids), 1))(*ids)
        self._library.mllm_matcher_create(
            self._object._handle, array, 0 if ids is None else len(ids), byref(raw)
        )
        return Matcher(raw)


class Matcher:
    """Follows one text token by token."""

    def __init__(self, raw: c_void_p) -> None:
        self._library = _native.library()
        self._object = _Handle("matcher", raw, self._library.mllm_matcher_close)

    @property
    def handle(self) -> c_void_p:
        """For the sampler."""
        return self._object._handle

    def copy(self) -> Matcher:
        """Another one at the same place."""
        raw = c_void_p()
        self._library.mllm_matcher_copy(self.handle, byref(raw))
        return Matcher(raw)

    def accept(self, token_id: int) -> None:
        """The token belongs to the text now; InvalidArgumentError where it is not allowed."""
        self._library.mllm_matcher_accept(self.handle, token_id)

    def accept_text(self, text: bytes) -> int:
        """Takes as many bytes as the grammar allows."""
        accepted = c_size_t()
        self._library.mllm_matcher_accept_text(self.handle, text, len(text), byref(accepted))
        return accepted.value

    def compute_mask(self) -> tuple[Any, int]:
        """The mask as the engine has it: a pointer to words of 32 bits, and how many there are."""
        words, count = POINTER(c_uint32)(), c_size_t()
        self._library.mllm_matcher_mask(self.handle, byref(words), byref(count))
        return words, count.value

    def mask(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """By token id, whether it may come next; at least as long as the vocabulary. InvalidArgumentError
        where the vocabulary has no token for what must come."""
        words, count = self.compute_mask()
        content = np.ctypeslib.as_array(words, (count,)).view(np.uint8)
        return np.unpackbits(content, bitorder="little").astype(bool)

    @property
    def can_end(self) -> bool:
        """The text is complete."""
        return self._progress()[0]

    @property
    def must_end(self) -> bool:
        """The text is complete, and nothing may follow."""
        return self._progress()[1]

    def _progress(self) -> tuple[bool, bool]:
        can_end, must_end = c_int32(), c_int32()
        self._library.mllm_matcher_progress(self.handle, byref(can_end), byref(must_end))
        return bool(can_end.value), bool(must_end.value)

    def close(self) -> None:
        self._object.close()


class GrammarCache:
    """The grammars that were asked for last, by kind and source."""

    _SIZE = 8

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Grammar] = {}

    def get(self, tokenizer: Any, params: SamplingParams) -> Grammar | None:
        """The grammar that these parameters ask for, if they do."""
        wanted = params.structure
        if wanted is None:
            return None
        if not hasattr(tokenizer, "_object"):
            raise InvalidArgumentError(f"{wanted[0]} needs the bundle's own tokenizer")
        grammar = self._known.pop(wanted, None) or Grammar(tokenizer, *wanted)
        self._known[wanted] = grammar
        for key in list(self._known)[: -self._SIZE]:
            self._known.pop(key, None)
        return grammar


@contextmanager
def _grammar_errors() -> Iterator[None]:
    try:
        yield
    except (BundleError, InvalidArgumentError, UnsupportedError) as error:
        raise GrammarError(str(error)) from None
