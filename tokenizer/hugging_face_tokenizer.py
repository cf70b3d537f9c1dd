"""tokenizer.json on the host, with Hugging Face's tokenizers package.

Calibration reads texts before there is a bundle; the device has the engine's tokenizer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .base import Tokenizer, utf8
from .config import read_chat_template, read_settings, read_stop_ids
from .errors import TokenizerError


class HuggingFaceTokenizer(Tokenizer):
    """The tokenizer.json of a checkpoint folder, with the settings beside it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        try:
            import tokenizers
        except ModuleNotFoundError:
            raise TokenizerError(f"{path}: reading it needs tokenizers: pip install tokenizers") from None
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises no narrower type
            raise TokenizerError(f"{path}: {error}") from None
        self._special = {
            index for index, token in self._tokenizer.get_added_tokens_decoder().items() if token.special
        }
        self.vocab_size = max(self._tokenizer.get_vocab().values(), default=-1) + 1
        settings = read_settings(folder)
        before, behind = self._around()
        bos, eos = self._named(folder, settings, "bos_token"), self._named(folder, settings, "eos_token")
        self.bos_token_id = before if bos is None else bos
        self.eos_token_id = behind if eos is None else eos
        stops = read_stop_ids(folder)
        self.stop_token_ids = stops or (() if self.eos_token_id is None else (self.eos_token_id,))
        self._adds_bos = settings.get("add_bos_token")  # None: as tokenizer.json says
        self.chat_template = read_chat_template(folder)

    @property
    def all_special_ids(self) -> list[int]:
        return sorted(self._special)

    def spelling(self, token_id: int) -> str:
        found = self._tokenizer.id_to_token(token_id) if 0 <= token_id < self.vocab_size else None
        if found is None:
            raise TokenizerError(f"token id {token_id} is outside the vocabulary [0, {self.vocab_size})")
        return found

    def token_text(self, token_id: int) -> str:
        self.spelling(token_id)
        return self._tokenizer.decode([token_id], skip_special_tokens=False)

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        utf8(text)
        self._tokenizer.encode_special_tokens = not parse_special
        around = add_special_tokens and self._adds_bos is not False
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=around).ids
        if around and self._adds_bos and self.bos_token_id is not None and ids[:1] != [self.bos_token_id]:
            ids.insert(0, self.bos_token_id)
        return ids

    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        return self._tokenizer.decode(
            [int(index) for index in token_ids], skip_special_tokens=skip_special_tokens
        )

    def stream_decoder(self, skip_special_tokens: bool = True) -> _Decoder:
        return _Decoder(self, skip_special_tokens)

    def _around(self) -> tuple[int | None, int | None]:
        """The tokens that the file's template puts before and behind a text."""
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        extra = len(whole) - len(plain)
        begin = next((at for at in range(extra + 1) if whole[at : at + len(plain)] == plain), 0)
        return (whole[0] if begin else None), (whole[-1] if begin < extra else None)

    def _named(self, folder: Path, settings: dict[str, Any], name: str) -> int | None:
        token = settings.get(name)
        spelling = token.get("content") if isinstance(token, dict) else token
        if spelling is None:
            return None
        index = self._tokenizer.token_to_id(spelling)
        if index is None:
            where = folder / "tokenizer_config.json"
            raise TokenizerError(f"{where}: {name} {json.dumps(spelling)} is not in tokenizer.json")
        return index


class _Decoder:
    """Decodes all ids again at each step; what may be an unfinished character waits."""

    def __init__(self, tokenizer: HuggingFaceTokenizer, skip_special_tokens: bool) -> None:
        self._tokenizer, self._skip = tokenizer, skip_special_tokens
        self._ids: list[int] = []
        self._given = 0  # characters

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        whole = self._tokenizer.decode(self._ids, self._skip)
        return self._part(whole.rstrip("\ufffd"))

    def flush(self) -> str:
        return self._part(self._tokenizer.decode(self._ids, self._skip))

    def _part(self, whole: str) -> str:
        part = whole[self._given :]
        self._given += len(part)
        return part
