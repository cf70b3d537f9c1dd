"""Tokenizer files and templates that were made to do harm: an error of one line, or a tokenizer that works.

Random damage is in the tests of each kind; here are numbers, lengths and nesting that it would hardly hit.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from mindir_llm.runtime import EngineTokenizer, MindirLLMError
from mindir_llm.runtime.chat_template import ChatTemplate
from mindir_llm.tokenizer import TokenizerError

DEEP = 100_000
NUMBERS = ["-1", "1e308", "1e999", "9223372036854775808", "18446744073709551616", "4294967296", "0.5", "-0"]


def byte_level_json(**changes: Any) -> str:
    vocabulary = {chr(code): code - 33 for code in range(33, 127)} | {"ab": 94}
    content: dict[str, Any] = {
        "model": {"type": "BPE", "vocab": vocabulary, "merges": [["a", "b"]]},
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
        "decoder": {"type": "ByteLevel"},
        "added_tokens": [{"id": 95, "content": "<s>", "special": True}],
    }
    for path, value in changes.items():
        *parents, last = path.split("__")
        inner = content
        for parent in parents:
            inner = inner[parent]
        inner[last] = value
    return json.dumps(content)


def json_files() -> Iterator[dict[str, bytes]]:
    whole = byte_level_json()
    yield {"tokenizer.json": whole.encode()}
    for opening in ("[", '{"a":', '{"model":', "[{},"):
        yield {"tokenizer.json": (opening * DEEP).encode()}
    nested = '{"type": "Sequence", "normalizers": [' * 5000 + '{"type": "NFC"}' + "]}" * 5000
    yield {"tokenizer.json": byte_level_json(normalizer="HERE").replace('"HERE"', nested).encode()}
    split = '{"type": "Sequence", "pretokenizers": [' * 5000 + "]}" * 5000
    yield {"tokenizer.json": byte_level_json(pre_tokenizer="HERE").replace('"HERE"', split).encode()}
    for number in NUMBERS:
        yield {"tokenizer.json": whole.replace('"ab": 94', f'"ab": {number}').encode()}
        yield {"tokenizer.json": whole.replace('"id": 95', f'"id": {number}').encode()}
        config = (
            f'{{"model_max_length": {number}, "added_tokens_decoder": {{"{number}": {{"content": "x"}}}}}}'
        )
        yield {"tokenizer.json": whole.encode(), "tokenizer_config.json": config.encode()}
    yield {"tokenizer.json": whole.replace("<s>", "\\ud800").encode()}
    yield {"tokenizer.json": whole.replace("<s>", "\\u0000").encode()}
    yield {"tokenizer.json": whole.replace("<s>", "x" * 5_000_000).encode()}
    yield {"tokenizer.json": byte_level_json(model__merges=[["ab", "ab"]] * 50_000).encode()}
    yield {"tokenizer.json": whole.encode(), "tokenizer_config.json": b"[" * DEEP}
    yield {"tokenizer.json": whole.encode(), "tokenizer_config.json": b"{" + b'"a":1,' * DEEP}


def vocabulary_files() -> Iterator[dict[str, bytes]]:
    vocabulary = json.dumps(json.loads(byte_level_json())["model"]["vocab"])
    for number in NUMBERS:
        changed = vocabulary.replace('"ab": 94', f'"ab": {number}')
        yield {"vocab.json": changed.encode(), "merges.txt": b"a b"}
    for merges in (
        b"a b\n" * 1000,
        b"a\n",
        b"a b c\n",
        b"\xff \xfe\n",
        b"a \x00\n",
        b"\n" * DEEP,
        b"a" * DEEP,
    ):
        yield {"vocab.json": vocabulary.encode(), "merges.txt": merges}
    yield {"vocab.json": b"{" * DEEP, "merges.txt": b""}
    yield {"vocab.json": b"{}", "merges.txt": b""}


def rank_files() -> Iterator[dict[str, bytes]]:
    whole = b"".join(b"%s %d\n" % (base64.b64encode(bytes([code])), code) for code in range(256))
    yield {"tokenizer.model": whole + b"YWI= 256"}
    for number in NUMBERS:
        yield {"tokenizer.model": whole + b"YWI= " + number.encode()}
    lines = (
        b"YWI=",
        b"YWI= ",
        b"!!!! 256",
        b"YWI 256",
        b"==== 256",
        b" 256",
        b"YWI= 0",
        b"YWI= 256 2",
        b"YWI= 256\0",
    )
    for line in lines:
        yield {"tokenizer.model": whole + line}
    yield {"tokenizer.model": whole + b"YgAA" * DEEP + b" 256"}


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def piece(text: bytes, score: float = -1.0, kind: int = 1) -> bytes:
    return field(1, field(1, text) + b"\x15" + struct.pack("<f", score) + b"\x18" + varint(kind))


def sentencepiece_files() -> Iterator[dict[str, bytes]]:
    """Of ModelProto: pieces 1 (piece 1, score 2, type 3), trainer_spec 2, normalizer_spec 3 (map 2)."""
    start = piece(b"<unk>", 0, 2) + piece(b"<s>", 0, 3) + piece(b"</s>", 0, 3)
    letters = b"".join(piece(bytes([code]), -float(code)) for code in range(97, 123))
    huge = (2**31, 2**32 - 1, 2**63, 2**64 - 1)
    for algorithm in (1, 2):
        spec = field(2, b"\x18" + varint(algorithm))
        whole = start + letters + spec
        yield {"tokenizer.model": whole}
        for score in (float("nan"), float("inf"), float("-inf"), 3e38, -3e38, 0.0):
            yield {"tokenizer.model": start + piece(b"ab", score) + letters + spec}
        for kind in (0, 7, 99, *huge):
            yield {"tokenizer.model": start + piece(b"ab", kind=kind) + letters + spec}
        for number in huge:
            for identifier in (40, 41, 42, 43):  # unk_id, bos_id, eos_id, pad_id
                ids = varint(identifier << 3) + varint(number)
                yield {"tokenizer.model": start + letters + field(2, b"\x18" + varint(algorithm) + ids)}
            yield {"tokenizer.model": whole + varint(9 << 3 | 2) + varint(number) + b"x"}
            yield {"tokenizer.model": whole + field(3, field(2, struct.pack("<I", number & 0xFFFFFFFF)))}
        for units in (1, 2, 255, 256):
            table = struct.pack("<I", 4 * units) + b"\xff\xff\xff\x7f" * units + b"a\0b"
            yield {"tokenizer.model": whole + field(3, field(2, table))}
            table = struct.pack("<I", 4 * units) + b"\x00\x04\x00\x00" * units
            yield {"tokenizer.model": whole + field(3, field(2, table))}
        yield {"tokenizer.model": whole + b"\x0b" * DEEP}  # groups in groups
        yield {"tokenizer.model": start + piece(b"") + letters + spec}
        yield {"tokenizer.model": start + piece(b"\xff\xfe") + letters + spec}
        yield {"tokenizer.model": start + piece(b"x" * 3_000_000) + letters + spec}
        yield {"tokenizer.model": start + piece(b"a") * 3 + letters + spec}
        bytes_only = b"".join(piece(b"<0x%02X>" % code, 0, 6) for code in range(255))
        yield {"tokenizer.model": start + bytes_only + letters + spec}


KINDS = {
    "tokenizer.json": json_files,
    "vocab.json": vocabulary_files,
    "ranks": rank_files,
    "sentencepiece": sentencepiece_files,
}


def works(folder: Path, files: Mapping[str, bytes]) -> bool:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        tokenizer = EngineTokenizer(folder)
    except TokenizerError as error:
        assert str(folder) in str(error), str(error)
        assert "\n" not in str(error) and len(str(error)) < 3000
        return False
    for text in ("abab cab", "é\0\ud7ff😀", "ab" * 20_000, ""):
        tokenizer.decode(tokenizer.encode(text))
    tokenizer.decode(range(min(tokenizer.vocab_size, 500)))
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_tokenizer_files(kind: str, tmp_path: Path) -> None:
    results = [works(tmp_path / str(number), files) for number, files in enumerate(KINDS[kind]())]
    # The generators start from files that are whole.
    assert 0 < sum(results) < len(results)


@pytest.mark.parametrize(
    "source",
    [
        "{% if a %}" * DEEP,
        "{% if a %}" * DEEP + "{% endif %}" * DEEP,
        "{% for a in b %}" * 3000 + "{% endfor %}" * 3000,
        "{% macro a() %}" * 3000 + "{% endmacro %}" * 3000,
        "{{ " + "not " * DEEP + "a }}",
        "{{ " + "-" * DEEP + "1 }}",
        "{{ a" + ".b" * DEEP + " }}",
        "{{ a" + "[0]" * DEEP + " }}",
        "{{ a" + "|string" * DEEP + " }}",
        "{{ a" + "()" * DEEP + " }}",
        "{{ 1" + " if a else 1" * DEEP + " }}",
        "{{ 1" + "**1" * DEEP + " }}",
        "{{ {" + "1:{" * DEEP + " }}",
        "{{ '" + "\\" * (DEEP + 1) + "' }}",
        "{#" * DEEP,
        "{{ 1" + "0" * DEEP + " }}",
        "{{ 1e" + "9" * DEEP + " }}",
        "{% set " + "a, " * DEEP + "b = c %}",
        "\0{{ '\0' }}\0",
        "{% raw %}" * DEEP,
    ],
    ids=lambda source: source[:12].replace("\0", "0"),
)
def test_templates(source: str) -> None:
    try:
        text = ChatTemplate(source).render([])
    except MindirLLMError as error:
        assert str(error).startswith("chat template: ") and "\n" not in str(error)
        assert len(str(error)) < 3000
    else:
        assert len(text) < 10 * len(source)
