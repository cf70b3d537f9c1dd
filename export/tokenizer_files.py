"""What a bundle takes over from a checkpoint's tokenizer files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mindir_llm.export.byte_level_tokenizers import (
    ByteLevelFiles,
    UnsupportedTokenizer,
    is_tiktoken,
    read_json_files,
    read_tiktoken,
)
from mindir_llm.export.checkpoint import read_json
from mindir_llm.export.errors import ExportError

__all__ = ["TokenizerFiles", "read_tokenizer"]


@dataclass(frozen=True)
class TokenizerFiles:
    """The manifest's `tokenizer` object (None: the bundle takes token ids only), files to copy, and
    warnings."""

    manifest: dict[str, Any] | None
    files: tuple[Path, ...]
    warnings: tuple[str, ...]


def read_tokenizer(folder: Path, vocab_size: int) -> TokenizerFiles:
    """Read tokenizer files, special and stop ids and the chat template of a checkpoint folder.

    In this order: a SentencePiece tokenizer.model, tokenizer.json, a tokenizer.model of tiktoken ranks,
    vocab.json with merges.txt. A checkpoint without any that the engine can run gives no tokenizer and a
    warning: its bundle still runs on token ids. ExportError: a file is damaged or contradicts config.json.
    """
    settings = _optional_json(folder / "tokenizer_config.json")
    model = folder / "tokenizer.model"
    try:
        if model.exists() and not is_tiktoken(model):
            return _read_sentencepiece(folder, vocab_size, settings)
        files = None
        if model.exists() and not (folder / "tokenizer.json").exists():
            files = read_tiktoken(model, settings)
        files = files or read_json_files(folder, settings)
    except UnsupportedTokenizer as error:
        return _none(str(error))
    if files is None:
        return _none(f"{folder}: no tokenizer.model, tokenizer.json, or vocab.json with merges.txt")
    return _from_byte_level(folder, vocab_size, settings, files)


def _none(why: str) -> TokenizerFiles:
    return TokenizerFiles(None, (), (f"{why}; the bundle takes and returns token ids only",))


def _from_byte_level(
    folder: Path, vocab_size: int, settings: dict[str, Any], files: ByteLevelFiles
) -> TokenizerFiles:
    if files.vocab_size > vocab_size:
        raise ExportError(
            f"{files.files[0]}: has {files.vocab_size} tokens, but config.json says vocab_size {vocab_size}"
        )
    config = _optional_json(folder / "config.json")
    source, stop = _stop_ids(folder, _optional_json(folder / "generation_config.json"), config)

    def special(name: str, otherwise: int | None) -> int:
        token = settings.get(f"{name}_token")
        spelling = token.get("content") if isinstance(token, dict) else token
        if spelling is not None:
            if spelling not in files.special:
                where = folder / "tokenizer_config.json"
                raise ExportError(f"{where}: {name}_token: {spelling!r} is not in {files.files[0].name}")
            return files.special[spelling]
        if otherwise is None:
            otherwise = config.get(f"{name}_token_id")
            otherwise = otherwise[0] if isinstance(otherwise, list) and otherwise else otherwise
        return otherwise if type(otherwise) is int and 0 <= otherwise < files.vocab_size else -1

    bos, eos = special("bos", files.bos), special("eos", files.eos)
    if not stop and eos >= 0:
        stop = [eos]
    _check_stop_ids(source, stop, vocab_size)
    return TokenizerFiles(
        {
            "kind": files.kind,
            "files": [path.name for path in files.files],
            "add_bos_token": _flag(folder, settings, "add_bos_token", files.add_bos) and bos >= 0,
            "add_eos_token": _flag(folder, settings, "add_eos_token", files.add_eos) and eos >= 0,
            "bos_token_id": bos,
            "eos_token_id": eos,
            "stop_token_ids": stop,
            "chat_template": _chat_template(folder, settings),
        },
        files.files,
        (),
    )


def _read_sentencepiece(folder: Path, vocab_size: int, settings: dict[str, Any]) -> TokenizerFiles:
    import sentencepiece

    path = folder / "tokenizer.model"
    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(path.read_bytes())
    except (RuntimeError, ValueError):
        return _none(f"{path}: neither a SentencePiece model nor tiktoken ranks")
    pieces = processor.get_piece_size()
    if pieces > vocab_size:
        raise ExportError(f"{path}: has {pieces} pieces, but config.json says vocab_size {vocab_size}")

    config = _optional_json(folder / "config.json")
    generation = _optional_json(folder / "generation_config.json")
    warnings = []
    added = settings.get("added_tokens_decoder") or {}
    if not isinstance(added, dict):
        raise ExportError(f"{folder / 'tokenizer_config.json'}: added_tokens_decoder: expected an object")
    beyond = [str(key) for key in added if str(key).isdigit() and int(key) >= pieces]
    if beyond:
        warnings.append(
            f"{folder / 'tokenizer_config.json'}: {len(beyond)} added tokens are not in tokenizer.model"
            " and will not be recognized in text"
        )
    source, stop = _stop_ids(folder, generation, config)
    if not stop and processor.eos_id() >= 0:
        stop = [processor.eos_id()]
    _check_stop_ids(source, stop, vocab_size)
    bos = config.get("bos_token_id")
    if type(bos) is not int or not 0 <= bos < vocab_size:
        bos = processor.bos_id()
    eos = processor.eos_id() if processor.eos_id() >= 0 else (stop[0] if stop else -1)
    manifest = {
        "kind": "sentencepiece",
        "files": [path.name],
        "add_bos_token": _flag(folder, settings, "add_bos_token", bos >= 0),
        "add_eos_token": _flag(folder, settings, "add_eos_token", False),
        "bos_token_id": bos,
        "eos_token_id": eos,
        "stop_token_ids": stop,
        "chat_template": _chat_template(folder, settings),
    }
    return TokenizerFiles(manifest, (path,), tuple(warnings))


def _check_stop_ids(source: Path, stop: list[int], vocab_size: int) -> None:
    for token in stop:
        if token >= vocab_size:
            raise ExportError(f"{source}: eos_token_id: {token} is not below vocab_size {vocab_size}")


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _flag(folder: Path, settings: dict[str, Any], name: str, default: bool) -> bool:
    value = settings.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise ExportError(
            f"{folder / 'tokenizer_config.json'}: {name}: expected true or false, found {value!r}"
        )
    return value


def _stop_ids(folder: Path, generation: dict[str, Any], config: dict[str, Any]) -> tuple[Path, list[int]]:
    """Ids that end a text: generation_config.json decides where it speaks, config.json otherwise."""
    for fields, name in ((generation, "generation_config.json"), (config, "config.json")):
        value = fields.get("eos_token_id")
        if value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        if not all(type(token) is int and token >= 0 for token in ids):
            raise ExportError(
                f"{folder / name}: eos_token_id: expected an id or a list of ids, found {value!r}"
            )
        return folder / name, sorted(set(ids))
    return folder / "config.json", []


def _chat_template(folder: Path, settings: dict[str, Any]) -> str | None:
    separate = folder / "chat_template.jinja"
    if separate.exists():
        return separate.read_text(encoding="utf-8")
    value = settings.get("chat_template")
    if isinstance(value, list):
        # Several named templates; transformers uses the one called "default".
        named = {item.get("name"): item.get("template") for item in value if isinstance(item, dict)}
        value = named.get("default")
    if value is not None and not isinstance(value, str):
        raise ExportError(
            f"{folder / 'tokenizer_config.json'}: chat_template: expected text, found {type(value).__name__}"
        )
    return value
