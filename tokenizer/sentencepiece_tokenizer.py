"""SentencePiece tokenizers (Llama 2, TinyLlama, Mistral 7B …): text to ids and back."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .base import Tokenizer, utf8
from .config import TokenizerConfig
from .errors import TokenizerError
from .stream_decoder import SPACE, Piece, PieceKind, StreamDecoder


def load_processor(model_file: Path) -> Any:
    """Open a tokenizer.model with the sentencepiece package, which is imported here and nowhere earlier."""
    try:
        import sentencepiece
    except ModuleNotFoundError:
        raise TokenizerError(
            f"{model_file}: reading it needs sentencepiece: pip install sentencepiece"
        ) from None
    try:
        content = model_file.read_bytes()
    except OSError as error:
        raise TokenizerError(f"{model_file}: {error.strerror}") from None
    processor = sentencepiece.SentencePieceProcessor()
    try:
        accepted = bool(content) and processor.load_from_serialized_proto(content)
    except RuntimeError:
        accepted = False
    if not accepted:
        raise TokenizerError(f"{model_file}: not a SentencePiece model")
    return processor


class SentencePieceTokenizer(Tokenizer):
    """Encodes and decodes with the sentencepiece package."""

    def __init__(self, model_file: Path, config: TokenizerConfig) -> None:
        self.config = config
        self.chat_template = config.chat_template
        self.bos_token_id, self.eos_token_id = config.bos_token_id, config.eos_token_id
        self.stop_token_ids = config.stop_token_ids
        self._processor = load_processor(model_file)
        self.vocab_size: int = self._processor.vocab_size()
        for name, index in (("bos_token_id", config.bos_token_id), ("eos_token_id", config.eos_token_id)):
            if index is not None and index >= self.vocab_size:
                raise TokenizerError(
                    f"{model_file}: {name} is {index}, but the vocabulary has {self.vocab_size} pieces"
                )
        for needed, name in ((config.add_bos_token, "bos_token_id"), (config.add_eos_token, "eos_token_id")):
            if needed and getattr(config, name) is None:
                raise TokenizerError(f"{model_file}: add_{name[:3]}_token is set, but there is no {name}")
        self._pieces: dict[int, Piece] = {}
        self._special_ids = frozenset(
            {index for index in range(self.vocab_size) if self._is_special(index)}
            | {index for index in (config.bos_token_id, config.eos_token_id) if index is not None}
        )
        special = sorted(
            (self._processor.id_to_piece(index) for index in self._special_ids), key=len, reverse=True
        )
        self._special_pattern = re.compile("(" + "|".join(map(re.escape, special)) + ")") if special else None
        self.strips_first_space, self.strips_all_first_spaces = self._probe_first_space()

    # -- vocabulary

    @property
    def all_special_ids(self) -> list[int]:
        return sorted(self._special_ids)

    def piece(self, token_id: int) -> Piece:
        """The vocabulary entry of an id; TokenizerError outside [0, vocab_size)."""
        found = self._pieces.get(token_id)
        if found is not None:
            return found
        if not 0 <= token_id < self.vocab_size:
            raise TokenizerError(f"token id {token_id} is outside the vocabulary [0, {self.vocab_size})")
        text = self._processor.id_to_piece(token_id)
        if token_id in self._special_ids:
            piece = Piece(PieceKind.SPECIAL, text)
        elif self._processor.is_byte(token_id):
            piece = Piece(PieceKind.BYTE, text, byte=int(text[3:-1], 16))  # spelled <0x41>
        else:
            piece = Piece(PieceKind.TEXT, text)
        self._pieces[token_id] = piece
        return piece

    def spelling(self, token_id: int) -> str:
        return self.piece(token_id).text

    def token_text(self, token_id: int) -> str:
        piece = self.piece(token_id)
        if piece.kind is PieceKind.BYTE:
            return chr(piece.byte) if piece.byte < 0x80 else piece.text
        return piece.text.replace(SPACE, " ")

    # -- text to ids

    def encode(self, text: str, add_special_tokens: bool = True, parse_special: bool = True) -> list[int]:
        utf8(text)
        ids: list[int] = []
        if self._special_pattern is not None and parse_special:
            # Each stretch of text is encoded for itself, as the original Llama code and MindFormers do.
            for index, part in enumerate(self._special_pattern.split(text)):
                if index % 2:
                    ids.append(self._processor.piece_to_id(part))
                elif part:
                    ids.extend(self._processor.encode(part))
        else:
            ids = list(self._processor.encode(text))
        if add_special_tokens:
            if self.config.add_bos_token and self.config.bos_token_id is not None:
                ids.insert(0, self.config.bos_token_id)
            if self.config.add_eos_token and self.config.eos_token_id is not None:
                ids.append(self.config.eos_token_id)
        return ids

    # -- ids to text

    def decode(self, token_ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        decoder = self.stream_decoder(skip_special_tokens)
        return "".join([decoder.push(int(token_id)) for token_id in token_ids]) + decoder.flush()

    def stream_decoder(self, skip_special_tokens: bool = True) -> StreamDecoder:
        return StreamDecoder(self, skip_special_tokens)

    # -- inside

    def _is_special(self, index: int) -> bool:
        return self._processor.is_control(index) or self._processor.is_unknown(index)

    def _probe_first_space(self) -> tuple[bool, bool]:
        """Whether SentencePiece takes blanks away before the first text. The model's normalizer settings
        decide, the package does not show them, so ask it with the shortest piece that starts with a blank."""
        starting = [
            index
            for index in range(self.vocab_size)
            if index not in self._special_ids and self._processor.id_to_piece(index).startswith(SPACE)
        ]
        if not starting:
            return False, False
        shortest = min(starting, key=lambda index: len(self._processor.id_to_piece(index)))
        first = not self._processor.decode([shortest]).startswith(" ")
        alone = self._processor.id_to_piece(shortest) == SPACE
        return first, first and alone and self._processor.decode([shortest, shortest]) == ""
