"""Tokenizers and chat templates, shared by the exporting host and the device. Needs no MindSpore.

`load_tokenizer(path)` takes a bundle, a Hugging Face checkpoint directory or a tokenizer.model.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from .base import TextDecoder, Tokenizer
from .config import SENTENCEPIECE, TokenizerConfig
from .errors import TokenizerError
from .sentencepiece_tokenizer import SentencePieceTokenizer
from .stream_decoder import StreamDecoder

__all__ = [
    "SentencePieceTokenizer",
    "StreamDecoder",
    "TextDecoder",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerError",
    "load_tokenizer",
]


def load_tokenizer(path: str | os.PathLike[str]) -> Tokenizer:
    """Open the tokenizer of a bundle or a checkpoint directory, or a tokenizer.model itself, on the host.

    It is made of the packages sentencepiece or tokenizers; the engine has tokenizers of its own, of every
    kind (mindir_llm.runtime.EngineTokenizer). TokenizerError names the file that is missing, damaged or not
    supported.
    """
    location = Path(path)
    if location.is_file():
        # A lone model file states no stop ids and no template: its own special tokens are all there is.
        return SentencePieceTokenizer(location, _config_of_file(location))
    manifest = location / "manifest.json"
    if manifest.is_file():
        return _from_bundle(location, manifest)
    config = TokenizerConfig.from_checkpoint(location)
    if config is None and (location / "tokenizer.json").is_file():
        from .hugging_face_tokenizer import HuggingFaceTokenizer

        return HuggingFaceTokenizer(location)
    if config is None:
        raise TokenizerError(
            f"{location}: neither a bundle (manifest.json) nor a directory with tokenizer.model "
            "or tokenizer.json"
        )
    return SentencePieceTokenizer(location / config.files[0], config)


def _from_bundle(bundle: Path, manifest: Path) -> SentencePieceTokenizer:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{manifest}: not valid JSON: {error}") from None
    section = content.get("tokenizer") if isinstance(content, dict) else None
    if section is None:
        raise TokenizerError(f"{bundle}: exported without a tokenizer; pass prompt_token_ids instead of text")
    config = TokenizerConfig.from_manifest(section)
    if config.kind != SENTENCEPIECE:
        raise TokenizerError(
            f"{bundle}: tokenizers of the kind {config.kind} are read by the engine: "
            "mindir_llm.runtime.EngineTokenizer"
        )
    for name in config.files:
        _check_file(bundle / name, content.get("files"), name)
    return SentencePieceTokenizer(bundle / config.files[0], config)


def _check_file(path: Path, files: Any, name: str) -> None:
    """Refuse a file that is not the one that was exported: wrong ids would only show as bad text."""
    recorded = files.get(name) if isinstance(files, dict) else None
    if not isinstance(recorded, dict):
        raise TokenizerError(f"{path.parent / 'manifest.json'}: files lists no {name}")
    if not path.is_file():
        raise TokenizerError(f"{path}: missing from the bundle; export it again")
    content = path.read_bytes()
    if len(content) != recorded.get("size") or hashlib.sha256(content).hexdigest() != recorded.get("sha256"):
        raise TokenizerError(
            f"{path}: differs from what manifest.json recorded; copy or export the bundle again"
        )


def _config_of_file(model_file: Path) -> TokenizerConfig:
    from .sentencepiece_tokenizer import load_processor

    processor = load_processor(model_file)
    bos, eos = (None if index < 0 else index for index in (processor.bos_id(), processor.eos_id()))
    return TokenizerConfig(
        kind=SENTENCEPIECE,
        files=(model_file.name,),
        add_bos_token=bos is not None,
        add_eos_token=False,
        bos_token_id=bos,
        eos_token_id=eos,
        stop_token_ids=() if eos is None else (eos,),
        chat_template=None,
    )
