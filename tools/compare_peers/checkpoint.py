"""The random checkpoint that every engine gets, with a made-up tokenizer, which some converters insist on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mindir_llm.tools.bench.subject import make_checkpoint

__all__ = ["prepare_checkpoint", "token_list"]

BOS, EOS, UNKNOWN = "<s>", "</s>", "<unk>"


def token_list(vocab_size: int) -> list[str]:
    """A piece for every id: three special ones, the 256 bytes as byte-level BPE writes them, fillers."""
    pieces = [UNKNOWN, BOS, EOS, *_byte_pieces()]
    pieces += [f"<filler{number}>" for number in range(len(pieces), vocab_size)]
    return pieces[:vocab_size]


def prepare_checkpoint(shape: str, workdir: Path) -> Path:
    """The checkpoint of a shape under workdir, made at the first call."""
    folder = make_checkpoint(shape, workdir)
    config = json.loads((folder / "config.json").read_text())
    config.update(bos_token_id=1, eos_token_id=2)
    files: dict[str, Any] = {
        "tokenizer.json": _tokenizer(config["vocab_size"]),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "unk_token": UNKNOWN,
            "model_max_length": config["max_position_embeddings"],
        },
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2},
        "config.json": config,
    }
    for name, content in files.items():
        text = json.dumps(content, indent=1) + "\n"
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    return folder


def _tokenizer(vocab_size: int) -> dict[str, Any]:
    """A byte-level BPE tokenizer.json without merges."""
    pieces = token_list(vocab_size)
    special = [
        {
            "id": number,
            "content": pieces[number],
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for number in range(3)
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: number for number, piece in enumerate(pieces)},
            "merges": [],
        },
    }


def _byte_pieces() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [byte for byte in range(256) if byte not in printable]
    stand_ins = {byte: chr(byte) for byte in printable}
    stand_ins.update({byte: chr(256 + number) for number, byte in enumerate(others)})
    return [stand_ins[byte] for byte in range(256)]
