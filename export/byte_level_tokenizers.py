"""What export must know of a byte-level tokenizer's files: how many ids, and which are special."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindir_llm.export.checkpoint import read_json
from mindir_llm.export.errors import ExportError

__all__ = ["ByteLevelFiles", "UnsupportedTokenizer", "is_tiktoken", "read_json_files", "read_tiktoken"]

# What Llama 3 began with: the engine puts these behind the ranks where tokenizer_config.json names no others.
_LLAMA3_SPECIAL_TOKENS = 256


class UnsupportedTokenizer(Exception):
    """A tokenizer that is valid and that the engine cannot run; the message says why."""


@dataclass(frozen=True)
class ByteLevelFiles:
    """kind and files as in the manifest; the ids of special tokens by spelling; what is put around a text."""

    kind: str
    files: tuple[Path, ...]
    vocab_size: int  # ids are below it
    special: dict[str, int]
    bos: int | None = None
    eos: int | None = None
    add_bos: bool = False
    add_eos: bool = False


def read_json_files(folder: Path, settings: dict[str, Any]) -> ByteLevelFiles | None:
    """tokenizer.json, else vocab.json with merges.txt; None where neither is there.

    UnsupportedTokenizer: not byte-level BPE. ExportError: damaged.
    """
    path = folder / "tokenizer.json"
    if path.exists():
        return _read_tokenizer_json(path)
    vocab = folder / "vocab.json"
    if not vocab.exists() or not (folder / "merges.txt").exists():
        return None
    ids = _ids(vocab, read_json(vocab))
    added = _added_tokens(folder, settings)
    return ByteLevelFiles(
        "vocab+merges",
        (vocab, folder / "merges.txt", *_settings_file(folder)),
        _size(vocab, [*ids.values(), *added.values()]),
        {**ids, **added},
    )


def is_tiktoken(path: Path) -> bool:
    """Whether a tokenizer.model holds tiktoken ranks."""
    with path.open("rb") as file:
        return _rank(file.readline()) is not None


def read_tiktoken(path: Path, settings: dict[str, Any]) -> ByteLevelFiles:
    """A tokenizer.model of tiktoken ranks (Llama 3)."""
    ranks = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        rank = _rank(line) if line else -1
        if rank is None:
            raise ExportError(f"{path}: line {number}: expected base64, a blank and a rank")
        ranks.append(rank)
    size = _size(path, ranks)
    special = _added_tokens(path.parent, settings)
    if not special:
        special = {"<|begin_of_text|>": size, "<|end_of_text|>": size + 1}
        size += _LLAMA3_SPECIAL_TOKENS
    bos = special.get("<|begin_of_text|>")
    return ByteLevelFiles(
        "tiktoken",
        (path, *_settings_file(path.parent)),
        max(size, *(index + 1 for index in special.values())),
        special,
        bos,
        special.get("<|end_of_text|>"),
        add_bos=bos is not None,
    )


def _rank(line: bytes) -> int | None:
    token, _, rank = line.strip().partition(b" ")
    try:
        base64.b64decode(token, validate=True)
        return int(rank) if token and rank.isdigit() else None
    except (binascii.Error, ValueError):
        return None


def _read_tokenizer_json(path: Path) -> ByteLevelFiles:
    content = read_json(path)
    model = content.get("model")
    if not isinstance(model, dict):
        raise ExportError(f"{path}: model: expected an object")
    kinds = {str(part.get("type")) for part in _parts(content.get("pre_tokenizer"), "pretokenizers")}
    if model.get("type", "BPE") != "BPE" or "ByteLevel" not in kinds or model.get("byte_fallback"):
        raise UnsupportedTokenizer(f"{path}: only byte-level BPE is supported")
    ids = _ids(path, model.get("vocab"))
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or not all(
        isinstance(token, dict) and isinstance(token.get("content"), str) and type(token.get("id")) is int
        for token in added
    ):
        raise ExportError(f"{path}: added_tokens: expected a list of objects with id and content")
    special = {**ids, **{token["content"]: token["id"] for token in added}}
    before, after = _template(path, content)
    return ByteLevelFiles(
        "tokenizer.json",
        (path,),
        _size(path, list(special.values())),
        special,
        before,
        after,
        before is not None,
        after is not None,
    )


def _parts(node: Any, members: str) -> Iterator[dict[str, Any]]:
    """A pre-tokenizer or post-processor, or those of a sequence."""
    if isinstance(node, dict) and node.get("type") == "Sequence":
        for part in node.get(members) or []:
            yield from _parts(part, members)
    elif isinstance(node, dict):
        yield node


def _template(path: Path, content: dict[str, Any]) -> tuple[int | None, int | None]:
    """The tokens that a template puts before and behind a text."""
    found: list[int | None] = [None, None]
    for part in _parts(content.get("post_processor"), "processors"):
        if part.get("type") != "TemplateProcessing":
            continue
        behind = 0
        try:
            for item in part["single"]:
                if "Sequence" in item:
                    behind = 1
                    continue
                (index,) = part["special_tokens"][item["SpecialToken"]["id"]]["ids"]
                if found[behind] is not None or type(index) is not int:
                    raise UnsupportedTokenizer(f"{path}: more than one token beside a text is not supported")
                found[behind] = index
        except (KeyError, TypeError, ValueError):
            raise ExportError(f"{path}: post_processor: the template is damaged") from None
    return found[0], found[1]


def _added_tokens(folder: Path, settings: dict[str, Any]) -> dict[str, int]:
    added = settings.get("added_tokens_decoder") or {}
    where = folder / "tokenizer_config.json"
    if not isinstance(added, dict):
        raise ExportError(f"{where}: added_tokens_decoder: expected an object")
    found = {}
    for index, token in added.items():
        content = token.get("content") if isinstance(token, dict) else None
        if not isinstance(content, str) or not str(index).isdigit():
            raise ExportError(f"{where}: added_tokens_decoder: {index!r}: expected an id and its content")
        found[content] = int(index)
    return found


def _settings_file(folder: Path) -> tuple[Path, ...]:
    path = folder / "tokenizer_config.json"
    return (path,) if path.exists() else ()


def _ids(path: Path, vocab: Any) -> dict[str, int]:
    if not isinstance(vocab, dict) or not vocab or not all(type(index) is int for index in vocab.values()):
        raise ExportError(f"{path}: the vocabulary is not an object of ids")
    return vocab


def _size(path: Path, ids: list[int]) -> int:
    if not ids or min(ids) < -1:
        raise ExportError(f"{path}: the vocabulary is empty or has negative ids")
    return max(ids) + 1
