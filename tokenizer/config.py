"""What a bundle's manifest says about its tokenizer, and how that is read from a Hugging Face checkpoint."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from .errors import TokenizerError

SENTENCEPIECE = "sentencepiece"
TOKENIZER_JSON = "tokenizer.json"  # byte-level BPE of Hugging Face's tokenizers
VOCAB_AND_MERGES = "vocab+merges"  # the same in vocab.json and merges.txt
TIKTOKEN = "tiktoken"  # the same as ranks, in a tokenizer.model
SUPPORTED_KINDS = (SENTENCEPIECE, TOKENIZER_JSON, VOCAB_AND_MERGES, TIKTOKEN)


@dataclass(frozen=True)
class TokenizerConfig:
    """The `tokenizer` object of manifest.json, field for field."""

    kind: str
    files: tuple[str, ...]
    add_bos_token: bool
    add_eos_token: bool
    bos_token_id: int | None
    eos_token_id: int | None
    stop_token_ids: tuple[int, ...]
    chat_template: str | None

    def to_manifest(self) -> dict[str, Any]:
        """The JSON object that `from_manifest` reads back; an id that does not exist is -1 there."""
        section = asdict(self)
        for name in ("bos_token_id", "eos_token_id"):
            section[name] = -1 if section[name] is None else section[name]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in section.items()}

    @classmethod
    def from_manifest(cls, section: Any) -> TokenizerConfig:
        """Check the manifest's `tokenizer` object and take it over; TokenizerError names a bad field."""
        if not isinstance(section, dict):
            raise TokenizerError(f"manifest.json: tokenizer is {section!r}, not an object")
        known = {field.name for field in fields(cls)}
        unknown, missing = sorted(set(section) - known), sorted(known - set(section))
        if unknown or missing:
            problem = f"unknown field {unknown[0]!r}" if unknown else f"field {missing[0]!r} is missing"
            raise TokenizerError(f"manifest.json: tokenizer: {problem}")
        if section["kind"] not in SUPPORTED_KINDS:
            raise TokenizerError(
                f"manifest.json: tokenizer kind {section['kind']!r} is not supported; this version reads: "
                f"{', '.join(SUPPORTED_KINDS)}"
            )

        def check(name: str, holds: bool, expected: str) -> Any:
            if not holds:
                raise TokenizerError(
                    f"manifest.json: tokenizer.{name} is {section[name]!r}, expected {expected}"
                )
            return section[name]

        def flag(name: str) -> bool:
            return check(name, isinstance(section[name], bool), "true or false")

        def token_id(name: str) -> int | None:
            found = check(name, section[name] == -1 or _is_id(section[name]), "a token id, or -1 for none")
            return None if found == -1 else found

        ids, files, template = section["stop_token_ids"], section["files"], section["chat_template"]
        check("stop_token_ids", isinstance(ids, list) and all(map(_is_id, ids)), "a list of token ids")
        check("files", isinstance(files, list) and bool(files) and all(map(_is_plain, files)), "file names")
        check("chat_template", template is None or isinstance(template, str), "a string or null")
        return cls(
            kind=section["kind"],
            files=tuple(files),
            add_bos_token=flag("add_bos_token"),
            add_eos_token=flag("add_eos_token"),
            bos_token_id=token_id("bos_token_id"),
            eos_token_id=token_id("eos_token_id"),
            stop_token_ids=tuple(ids),
            chat_template=template,
        )

    @classmethod
    def from_checkpoint(cls, directory: Path) -> TokenizerConfig | None:
        """Read a Hugging Face checkpoint's tokenizer settings; None where it has no tokenizer.model.

        The stop ids are those of generation_config.json, else of config.json, else the end token alone.
        """
        if not (directory / "tokenizer.model").is_file():
            return None
        from .sentencepiece_tokenizer import load_processor

        processor = load_processor(directory / "tokenizer.model")
        settings = _read_json(directory / "tokenizer_config.json")
        _warn_of_added_tokens(directory, settings, processor.vocab_size())

        def token_id(name: str, default: int) -> int | None:
            token = settings.get(name)
            content = token.get("content") if isinstance(token, dict) else token
            found = default if content is None else processor.piece_to_id(content)
            if content is not None and processor.id_to_piece(found) != content:
                raise TokenizerError(
                    f"{directory / 'tokenizer_config.json'}: {name} {content!r} is not in tokenizer.model"
                )
            return None if found < 0 else found

        eos = token_id("eos_token", processor.eos_id())
        stops = read_stop_ids(directory) or (() if eos is None else (eos,))
        return cls(
            kind=SENTENCEPIECE,
            files=("tokenizer.model",),
            add_bos_token=bool(settings.get("add_bos_token", True)),
            add_eos_token=bool(settings.get("add_eos_token", False)),
            bos_token_id=token_id("bos_token", processor.bos_id()),
            eos_token_id=eos,
            stop_token_ids=stops,
            chat_template=_chat_template(directory, settings),
        )


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _is_plain(name: Any) -> bool:
    """A file directly in the bundle: a manifest must not reach outside it."""
    return isinstance(name, str) and name not in ("", ".", "..") and not set(name) & set("/\\\0")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(content, dict):
        raise TokenizerError(f"{path}: expected a JSON object")
    return content


def _warn_of_added_tokens(directory: Path, settings: dict[str, Any], vocab_size: int) -> None:
    """Tokens appended behind the SentencePiece vocabulary would need an encoder of their own; say so now."""
    added = {str(key): int(value) for key, value in _read_json(directory / "added_tokens.json").items()}
    for index, token in (settings.get("added_tokens_decoder") or {}).items():
        added[str(token.get("content") if isinstance(token, dict) else token)] = int(index)
    for content, index in added.items():
        if index >= vocab_size:
            warnings.warn(
                f"{directory}: added token {content!r} (id {index}) lies behind the {vocab_size} pieces of "
                "tokenizer.model and will not be recognized in text",
                stacklevel=3,
            )


def read_settings(directory: Path) -> dict[str, Any]:
    """tokenizer_config.json of a checkpoint folder; {} where there is none."""
    return _read_json(directory / "tokenizer_config.json")


def read_stop_ids(directory: Path) -> tuple[int, ...]:
    """Ids that end a text: those of generation_config.json, else of config.json, else none."""
    stops = _read_json(directory / "generation_config.json").get("eos_token_id")
    if stops is None:
        stops = _read_json(directory / "config.json").get("eos_token_id")
    stops = [] if stops is None else stops if isinstance(stops, list) else [stops]
    if not all(map(_is_id, stops)):
        raise TokenizerError(f"{directory}: eos_token_id is {stops!r}, expected token ids")
    return tuple(stops)


def read_chat_template(directory: Path) -> str | None:
    """The chat template of a checkpoint folder."""
    return _chat_template(directory, read_settings(directory))


def _chat_template(directory: Path, settings: dict[str, Any]) -> str | None:
    file = directory / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):  # several named templates: the one called "default" is meant for chat
        template = next((entry.get("template") for entry in template if entry.get("name") == "default"), None)
    if template is not None and not isinstance(template, str):
        raise TokenizerError(f"{directory / 'tokenizer_config.json'}: chat_template is not a string")
    return template
