"""What a bundle takes over from a checkpoint's tokenizer files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    """Read the SentencePiece model, special and stop ids and the chat template of a checkpoint folder.

    A checkpoint without a SentencePiece model (Llama 3, say) gives no tokenizer and a warning: its bundle
    still runs on token ids. ExportError: a file is damaged or contradicts config.json.
    """
    path = folder / "tokenizer.model"
    if not path.exists():
        found = ""
        if (folder / "tokenizer.json").exists():
            found = "; tokenizer.json is not supported by this version"
        return TokenizerFiles(
            None, (), (f"{folder}: no tokenizer.model{found}; the bundle takes and returns token ids only",)
        )
    import sentencepiece

    processor = sentencepiece.SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(path.read_bytes())
    except (RuntimeError, ValueError):
        return TokenizerFiles(
            None,
            (),
            (f"{path}: not a SentencePiece model; the bundle takes and returns token ids only",),
        )
    pieces = processor.get_piece_size()
    if pieces > vocab_size:
        raise ExportError(f"{path}: has {pieces} pieces, but config.json says vocab_size {vocab_size}")

    config = _optional_json(folder / "config.json")
    settings = _optional_json(folder / "tokenizer_config.json")
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
    for token in stop:
        if token >= vocab_size:
            raise ExportError(f"{source}: eos_token_id: {token} is not below vocab_size {vocab_size}")
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
