"""What the bundle takes over from tokenizer files."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece

from mindir_llm.export.errors import ExportError
from mindir_llm.export.tokenizer_files import TokenizerFiles, read_tokenizer


@pytest.fixture(scope="module")
def model_bytes() -> bytes:
    """A SentencePiece model of 40 pieces with the usual <unk>, <s>, </s>."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "a dog ran to the house and back"] * 20),
        model_writer=model,
        vocab_size=40,
        model_type="bpe",
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture
def read(tmp_path: Path, model_bytes: bytes) -> Any:
    (tmp_path / "tokenizer.model").write_bytes(model_bytes)

    def call(vocab_size: int = 64, **files: Any) -> TokenizerFiles:
        for name, fields in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(fields))
        return read_tokenizer(tmp_path, vocab_size)

    return call


def test_plain_model(read: Any) -> None:
    found = read(config={"bos_token_id": 1, "eos_token_id": 2})
    assert found.manifest == {
        "kind": "sentencepiece",
        "files": ["tokenizer.model"],
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "stop_token_ids": [2],
        "chat_template": None,
    }
    assert [path.name for path in found.files] == ["tokenizer.model"]
    assert not found.warnings


def test_ids_come_from_the_model_where_no_file_says(read: Any) -> None:
    found = read()
    assert found.manifest["bos_token_id"] == 1
    assert found.manifest["stop_token_ids"] == [2]


def test_generation_config_decides_what_stops(read: Any) -> None:
    found = read(config={"eos_token_id": 2}, generation_config={"eos_token_id": [50, 7, 7]})
    assert found.manifest["stop_token_ids"] == [7, 50]
    assert read(config={"eos_token_id": 2}, generation_config={}).manifest["stop_token_ids"] == [2]


@pytest.mark.parametrize("ids", ["2", [2, "x"], -1, [True]])
def test_bad_stop_ids_are_named(read: Any, ids: Any) -> None:
    with pytest.raises(ExportError, match=r"config\.json: eos_token_id: expected"):
        read(config={"eos_token_id": ids})


def test_stop_id_beyond_the_vocabulary_is_refused(read: Any) -> None:
    with pytest.raises(ExportError, match=r"eos_token_id: 64 is not below vocab_size 64"):
        read(config={"eos_token_id": 64})


def test_tokenizer_larger_than_the_embedding_is_refused(read: Any) -> None:
    with pytest.raises(ExportError, match=r"40 pieces, but config.json says vocab_size 39"):
        read(vocab_size=39)


def test_flags_and_templates(read: Any, tmp_path: Path) -> None:
    found = read(tokenizer_config={"add_bos_token": False, "add_eos_token": True, "chat_template": "{{ x }}"})
    assert found.manifest["add_bos_token"] is False
    assert found.manifest["add_eos_token"] is True
    assert found.manifest["chat_template"] == "{{ x }}"
    several = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert read(tokenizer_config={"chat_template": several}).manifest["chat_template"] == "d"
    with pytest.raises(ExportError, match=r"chat_template: expected text"):
        read(tokenizer_config={"chat_template": 5})
    with pytest.raises(ExportError, match="add_bos_token: expected true or false"):
        read(tokenizer_config={"add_bos_token": "yes"})
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("separate é")
    assert read().manifest["chat_template"] == "separate é"


def test_added_tokens_beyond_the_model_are_warned_about(read: Any) -> None:
    added = {"1": {"content": "<s>"}, "45": {"content": "<|im_end|>"}}
    (warning,) = read(tokenizer_config={"added_tokens_decoder": added}).warnings
    assert "1 added tokens are not in tokenizer.model" in warning


def test_without_sentencepiece_there_is_a_warning_and_no_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    found = read_tokenizer(tmp_path, 64)
    assert found.manifest is None
    assert "tokenizer.json is not supported" in found.warnings[0]
    (tmp_path / "tokenizer.model").write_text(
        "bm90 MA==\n"
    )  # Llama 3 keeps a tiktoken vocabulary under this name
    found = read_tokenizer(tmp_path, 64)
    assert found.manifest is None
    assert "not a SentencePiece model" in found.warnings[0]
