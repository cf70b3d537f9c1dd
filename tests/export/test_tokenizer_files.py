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


def test_without_a_tokenizer_there_is_a_warning(tmp_path: Path) -> None:
    found = read_tokenizer(tmp_path, 64)
    assert found.manifest is None
    assert "no tokenizer.model, tokenizer.json, or vocab.json" in found.warnings[0]
    (tmp_path / "tokenizer.model").write_text("hello")
    found = read_tokenizer(tmp_path, 64)
    assert found.manifest is None
    assert "neither a SentencePiece model nor tiktoken ranks" in found.warnings[0]


BYTE_LEVEL: dict[str, Any] = {
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]},
    "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "ByteLevel"}]},
    "added_tokens": [{"id": 3, "content": "<s>", "special": True}, {"id": 5, "content": "</s>"}],
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
        "special_tokens": {"<s>": {"ids": [3]}},
    },
}


def write(folder: Path, **files: Any) -> Path:
    for name, fields in files.items():
        (folder / f"{name}.json").write_text(json.dumps(fields))
    return folder


def test_tokenizer_json(tmp_path: Path) -> None:
    generation = {"eos_token_id": [5, 3]}
    write(tmp_path, tokenizer=BYTE_LEVEL, generation_config=generation, config={"eos_token_id": 5})
    found = read_tokenizer(tmp_path, 64)
    assert found.manifest == {
        "kind": "tokenizer.json",
        "files": ["tokenizer.json"],
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token_id": 3,
        "eos_token_id": 5,
        "stop_token_ids": [3, 5],
        "chat_template": None,
    }
    assert [path.name for path in found.files] == ["tokenizer.json"] and not found.warnings
    write(tmp_path, tokenizer_config={"eos_token": {"content": "<s>"}, "add_bos_token": False})
    manifest = read_tokenizer(tmp_path, 64).manifest
    assert manifest is not None and manifest["eos_token_id"] == 3 and not manifest["add_bos_token"]
    # Ranks say less, so they do not matter beside a tokenizer.json; a SentencePiece model does.
    (tmp_path / "tokenizer.model").write_text("YQ== 0\n")
    manifest = read_tokenizer(tmp_path, 64).manifest
    assert manifest is not None and manifest["kind"] == "tokenizer.json"


def test_vocab_and_merges(tmp_path: Path) -> None:
    settings = {"added_tokens_decoder": {"7": {"content": "<|im_end|>"}}, "eos_token": "<|im_end|>"}
    write(tmp_path, vocab={"a": 0, "b": 1}, tokenizer_config=settings)
    (tmp_path / "merges.txt").write_text("a b\n")
    found = read_tokenizer(tmp_path, 8)
    assert found.manifest is not None
    assert found.manifest["kind"] == "vocab+merges"
    assert found.manifest["files"] == ["vocab.json", "merges.txt", "tokenizer_config.json"]
    assert (found.manifest["bos_token_id"], found.manifest["eos_token_id"]) == (-1, 7)
    assert found.manifest["stop_token_ids"] == [7]
    assert not found.manifest["add_bos_token"]
    with pytest.raises(ExportError, match=r"vocab.json: has 8 tokens, but config.json says vocab_size 7"):
        read_tokenizer(tmp_path, 7)


def test_tiktoken_ranks(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_text("YQ== 0\nYg== 1\n")
    found = read_tokenizer(tmp_path, 258)
    assert found.manifest is not None
    assert found.manifest["kind"] == "tiktoken" and found.manifest["files"] == ["tokenizer.model"]
    assert (found.manifest["bos_token_id"], found.manifest["stop_token_ids"]) == (2, [3])
    assert found.manifest["add_bos_token"]
    with pytest.raises(ExportError, match="has 258 tokens"):
        read_tokenizer(tmp_path, 257)
    (tmp_path / "tokenizer.model").write_text("YQ== 0\nYg\n")
    with pytest.raises(ExportError, match=r"tokenizer\.model: line 2: expected base64"):
        read_tokenizer(tmp_path, 258)


def test_tokenizers_that_the_engine_does_not_run_are_warned_about(tmp_path: Path) -> None:
    for change in (
        {"model": {**BYTE_LEVEL["model"], "type": "Unigram"}},
        {"model": {**BYTE_LEVEL["model"], "byte_fallback": True}},
        {"pre_tokenizer": {"type": "Metaspace"}},
        {"pre_tokenizer": None},
    ):
        write(tmp_path, tokenizer={**BYTE_LEVEL, **change})
        found = read_tokenizer(tmp_path, 64)
        assert found.manifest is None and "only byte-level BPE is supported" in found.warnings[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": []}, "model: expected an object"),
        ({"model": {"vocab": {"a": "b"}}}, "not an object of ids"),
        ({"model": {"vocab": {"a": -2}}}, "negative ids"),
        ({"added_tokens": [{"id": "x", "content": "y"}]}, "added_tokens: expected a list"),
        ({"post_processor": {"type": "TemplateProcessing"}}, "the template is damaged"),
    ],
)
def test_damaged_tokenizer_json(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write(tmp_path, tokenizer={**BYTE_LEVEL, **change})
    with pytest.raises(ExportError, match=message):
        read_tokenizer(tmp_path, 64)


def test_special_tokens_that_are_not_there(tmp_path: Path) -> None:
    write(tmp_path, tokenizer=BYTE_LEVEL, tokenizer_config={"eos_token": "<|im_end|>"})
    with pytest.raises(ExportError, match=r"eos_token: '<\|im_end\|>' is not in tokenizer.json"):
        read_tokenizer(tmp_path, 64)
