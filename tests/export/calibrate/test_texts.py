"""Calibration text: which pieces become sequences."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mindir_llm.export.calibrate import CalibrationSettings, calibrate_text, load_sequences
from mindir_llm.export.calibrate.texts import spread
from mindir_llm.export.errors import ExportError

DEMO = Path(__file__).resolve().parents[3] / "tools" / "demo_model" / "checkpoint"


class Letters:
    """A tokenizer with an id per character and 1 in front."""

    def encode(self, text: str) -> list[int]:
        return [1, *map(ord, text)]

    def apply_chat_template(self, conversation: Sequence[Mapping[str, Any]]) -> list[int]:
        return [2, *(ord(letter) for message in conversation for letter in message["content"])]


def read(path: Path, samples: int = 10, length: int = 20) -> list[str]:
    """Sequences as text, their first id as a digit."""
    found = load_sequences(path, Letters(), CalibrationSettings(samples=samples, length=length))
    assert all(ids.dtype == np.int32 for ids in found)
    return [str(ids[0]) + "".join(map(chr, ids[1:])) for ids in found]


def test_separated_texts_are_one_sequence_each(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("one\n\nstill one<|endoftext|>\n two \n<|endoftext|><|endoftext|>" + "x" * 50)
    assert read(file) == ["1one\n\nstill one", "1two", "1" + "x" * 19]


def test_paragraphs_are_joined_up_to_the_length(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("aaaa\nbb\n\n \n\ncccc\n \nddddddddddd\n\n\n" + "e" * 30 + "\n\nf\n", encoding="utf-8")
    assert read(file) == ["1aaaa\nbb\n\ncccc", "1ddddddddddd", "1" + "e" * 19, "1f"]


def test_jsonl(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    records = [{"text": "one\u2028two"}, {"messages": [{"role": "user", "content": "hi"}]}, {"text": " "}]
    file.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in records) + "\n\n", encoding="utf-8")
    assert read(file) == ["1one\u2028two", "2hi"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{', "line 2 is not JSON"),
        ('{"prompt": "a"}', 'line 1 has neither "text"'),
        ('["a"]', "line 1 has neither"),
        ('{"text": 1}', "line 1 has neither"),
        ('{"messages": []}', "line 1 has neither"),
        ('{"messages": ["a"]}', "line 1 has neither"),
        ("", "holds no text"),
    ],
)
def test_bad_jsonl_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text(content)
    with pytest.raises(ExportError, match=message):
        read(file)


def test_bad_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_bytes(b"good \xff")
    with pytest.raises(ExportError, match=r"not UTF-8: .* byte 5"):
        read(file)
    file.write_text("<|endoftext|> \n")
    with pytest.raises(ExportError, match="holds no text"):
        read(file)
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "absent.txt")


def test_samples_spread_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("<|endoftext|>".join("abcdefgh"))
    assert read(file, samples=4) == ["1a", "1c", "1e", "1g"]
    assert spread(3, 5) == [0, 1, 2]
    assert spread(7, 3) == [0, 2, 4]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, "--calibration-samples: 0"),
        ({"length": 1}, "--calibration-length: 1"),
        ({"sample_rows": -1}, "sample_rows: -1"),
        ({"samples": True}, "--calibration-samples: True"),
    ],
)
def test_settings_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        CalibrationSettings(**values)


def test_a_real_tokenizer(tmp_path: Path) -> None:
    file = tmp_path / "t.txt"
    file.write_text("Once upon a time there was a boy.<|endoftext|>He had a dog.")
    found = calibrate_text(DEMO, file, CalibrationSettings(samples=2, length=6))
    assert found.tokens <= 12
    assert found.inputs["lm_head"].rows == found.tokens
