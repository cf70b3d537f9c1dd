"""The demo model's SentencePiece tokenizer: byte-pair encoding with byte fallback, as Llama 2 has it."""

from __future__ import annotations

import io
from collections.abc import Iterable

import sentencepiece

__all__ = ["TOKENIZER_CONFIG", "train_tokenizer"]

TOKENIZER_CONFIG = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "legacy": True,
    "model_max_length": 512,
    "tokenizer_class": "LlamaTokenizer",
}


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> bytes:
    """The tokenizer.model for these texts: unk 0, bos 1, eos 2, 256 bytes, then pieces.

    The same texts give the same bytes.
    """
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=model,
        model_type="bpe",
        vocab_size=vocab_size,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        byte_fallback=True,
        # No text is changed on its way to ids, but a space goes before it, as Llama's tokenizer has it.
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        add_dummy_prefix=True,
        character_coverage=1.0,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        num_threads=1,
        minloglevel=2,
    )
    return model.getvalue()
