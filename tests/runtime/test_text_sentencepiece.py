"""The engine's SentencePiece tokenizer equals the sentencepiece package."""

from __future__ import annotations

import io
import random
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import BYTES, SAMPLES

from mindir_llm.runtime.tokenizer import EngineTokenizer
from mindir_llm.tokenizer import TokenizerError, load_tokenizer

BOTH = tuple[EngineTokenizer, sentencepiece.SentencePieceProcessor]


def train(path: Path, **options: Any) -> Path:
    """A small model of the samples."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([text.replace("\x00", "") for text in SAMPLES.values()] * 4),
        model_writer=model,
        minloglevel=2,
        **{"vocab_size": 700, "model_type": "bpe", "hard_vocab_limit": False, **options},
    )
    path.write_bytes(model.getvalue())
    return path


LLAMA = {
    "byte_fallback": True,
    "remove_extra_whitespaces": False,
    "normalization_rule_name": "identity",
    "allow_whitespace_only_pieces": True,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "bpe": LLAMA,
    "bpe-nfkc": {},
    "bpe-nfkc-casefold": {"normalization_rule_name": "nmt_nfkc_cf", "remove_extra_whitespaces": False},
    "bpe-no-prefix": {**LLAMA, "add_dummy_prefix": False},
    "bpe-suffix": {"treat_whitespace_as_suffix": True, "byte_fallback": True},
    "bpe-symbols": {
        **LLAMA,
        "user_defined_symbols": ["<tool>", "ab", "abc", "  ", "é", "\u2581x", "ﬁ"],
        "control_symbols": ["<c>", "q"],
    },
    "bpe-no-split": {**LLAMA, "split_by_whitespace": False, "split_by_unicode_script": False},
    "unigram": {"model_type": "unigram"},
    "unigram-bytes": {**LLAMA, "model_type": "unigram", "vocab_size": 900},
    "unigram-symbols": {
        "model_type": "unigram",
        "user_defined_symbols": ["<tool>", "ab", "abc", "  ", "é", "天气"],
        "control_symbols": ["<c>"],
    },
    # Symbols inside of symbols, where their scores decide.
    "unigram-nested-symbols": {
        "model_type": "unigram",
        "user_defined_symbols": ["a", "aa", "aaa", "ab", "]", "]]", "é", "éé", "天", "天天"],
    },
}


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS)
def variant(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BOTH:
    path = train(tmp_path_factory.mktemp("spm") / "tokenizer.model", **request.param)
    return EngineTokenizer(path), sentencepiece.SentencePieceProcessor(model_file=str(path))


@pytest.fixture(scope="module")
def llama2(shared_data: Path) -> BOTH:
    path = shared_data / "tokenizers" / "llama2" / "tokenizer.model"
    return EngineTokenizer(path), sentencepiece.SentencePieceProcessor(model_file=str(path))


def check(both: BOTH, text: bytes) -> None:
    ours, theirs = both
    expected = theirs.encode(text)
    ids = ours.encode_bytes(text, add_special_tokens=False, parse_special=False)
    assert ids == expected
    if theirs.unk_id() not in expected:  # SentencePiece spells <unk> " ⁇ "
        assert ours.decode(expected, skip_special_tokens=True) == theirs.decode(expected)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(variant: BOTH, name: str) -> None:
    check(variant, SAMPLES[name].encode())


@settings(max_examples=300, deadline=None)
@given(text=BYTES)
def test_any_bytes(variant: BOTH, text: bytes) -> None:
    check(variant, text)


@settings(max_examples=300, deadline=None)
@given(
    parts=st.lists(st.sampled_from(["a", "b", "o", "]", "é", "天", " ", "ab", "bo", "x]", "r"]), max_size=12)
)
def test_user_defined_pieces(variant: BOTH, parts: list[str]) -> None:
    check(variant, "".join(parts).encode())


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_decoding_in_parts_equals_sentencepiece(variant: BOTH, data: st.DataObject) -> None:
    ours, theirs = variant
    ids = data.draw(st.lists(st.integers(1, ours.vocab_size - 1), max_size=12))
    for text in data.draw(st.lists(st.sampled_from(["  \u2581 ", "你😀", " fox"]), max_size=2)):
        ids += [index for index in theirs.encode(text) if index != theirs.unk_id()]
    decoder = ours.stream_decoder()
    parts = [decoder.push(index) for index in ids]
    assert "".join(parts) + decoder.flush() == theirs.decode(ids)
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids)


def test_llama2_vectors(llama2: BOTH, shared_data: Path) -> None:
    folder = shared_data / "tokenizers" / "llama2"
    texts = (folder / "vectors.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    lines = (folder / "vectors.out").read_text().split("\n")
    assert len(texts) == len(lines) == 47
    ours = llama2[0]
    for text, line in zip(texts, lines, strict=True):
        ids = [int(index) for index in line.split()]
        assert ours.encode_bytes(text, add_special_tokens=False) == ids, text
        assert ours.decode(ids) == text.decode()
    assert ours("I love Beijing, because")["input_ids"] == [1, 306, 5360, 1522, 823, 292, 29892, 1363]


def test_llama2_samples_and_a_megabyte(llama2: BOTH, shared_data: Path) -> None:
    for text in SAMPLES.values():
        check(llama2, text.encode())
    check(llama2, (shared_data / "text" / "tinyshakespeare_input.txt").read_bytes())


@settings(max_examples=500, deadline=None)
@given(text=BYTES)
def test_llama2_any_bytes(llama2: BOTH, text: bytes) -> None:
    check(llama2, text)


@pytest.mark.parametrize("unit", ["a", " ", "ab", "你好", "\ufdfa"])
def test_long_runs_take_no_quadratic_time(variant: BOTH, unit: str) -> None:
    text = unit * (200_000 // len(unit.encode()))
    ours, theirs = variant
    assert ours.encode(text, False) == theirs.encode(text)  # a quadratic encoder would take minutes


def test_it_is_the_tokenizer_that_the_host_uses(variant: BOTH, tmp_path: Path) -> None:
    """Same ids, special tokens and texts as mindir_llm.tokenizer, which export reads configurations with."""
    ours, theirs = variant
    path = tmp_path / "tokenizer.model"
    path.write_bytes(theirs.serialized_model_proto())
    host = load_tokenizer(path)
    for text in ("a fox</s><s>ball", "  <unk>x", "", "</s>", "<c>q<tool>", "\u2581x"):
        for special in (True, False):
            assert ours.encode(text, special, not special) == host.encode(text, special, not special)
            assert ours(text, special) == host(text, special)
    assert ours.stop_token_ids == host.stop_token_ids
    assert (ours.bos_token_id, ours.eos_token_id) == (host.bos_token_id, host.eos_token_id)
    assert ours.all_special_ids == host.all_special_ids
    assert len(ours) == len(host)
    ids = list(range(len(ours)))
    assert [ours.token_text(index) for index in ids] == [host.token_text(index) for index in ids]
    assert [ours.spelling(index) for index in ids] == [host.spelling(index) for index in ids]
    assert all(
        ours.token_id(host.spelling(index)) == theirs.piece_to_id(host.spelling(index)) for index in ids
    )
    assert ours.token_id("no such piece") is None
    for skip in (True, False):
        assert ours.decode(ids, skip) == host.decode(ids, skip)


def test_bytes_wait_for_their_character(llama2: BOTH) -> None:
    decoder = llama2[0].stream_decoder()
    assert [decoder.push(3 + byte) for byte in "你".encode()] == ["", "", "你"]
    assert [decoder.push(3 + 0xE4), decoder.push(3 + 0x41), decoder.flush()] == ["", "\ufffdA", ""]
    assert [decoder.push(3 + 0xE4), decoder.flush()] == ["", "\ufffd"]


def test_what_is_no_text_or_no_id_is_refused(variant: BOTH) -> None:
    ours = variant[0]
    with pytest.raises(TokenizerError, match=r"lone surrogate .* at index 2"):
        ours.encode("ab\ud800")
    for index in (-1, ours.vocab_size, 2**31, 2**40):
        with pytest.raises(TokenizerError, match="is outside the vocabulary"):
            ours.decode([index])
        with pytest.raises(TokenizerError, match="is outside the vocabulary"):
            ours.stream_decoder().push(index)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100, b"\x0a\xff\xff\xff\xff\x0f"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: not a"):
        EngineTokenizer(tmp_path / "tokenizer.model")


@pytest.mark.parametrize("options", [LLAMA, {"model_type": "unigram"}], ids=["bpe", "unigram"])
def test_damaged_models_are_refused_or_work(tmp_path: Path, options: dict[str, Any]) -> None:
    """A changed byte may give a model that is valid and another one; nothing may crash."""
    content = train(tmp_path / "tokenizer.model", **{**options, "vocab_size": 620}).read_bytes()
    text = "".join(SAMPLES.values())
    damaged = tmp_path / "damaged.model"
    source = random.Random(5)
    opened = 0
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(source.choice([1, 1, 3, 20])):
            # Most bytes are a character map's; the interesting ones lie at both ends.
            end = source.choice([200, len(changed)])
            at = source.randrange(end) if source.random() < 0.5 else len(changed) - 1 - source.randrange(end)
            changed[at] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
        if source.random() < 0.2:
            del changed[source.randrange(len(changed)) :]
        damaged.write_bytes(changed)
        try:
            tokenizer = EngineTokenizer(damaged)
        except TokenizerError as error:
            assert "damaged.model" in str(error) and "\n" not in str(error)
            continue
        opened += 1
        tokenizer.decode(tokenizer.encode(text))
        tokenizer.decode(range(tokenizer.vocab_size))
    assert 0 < opened < 300
