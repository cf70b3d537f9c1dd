"""The SentencePiece tokenizer against recorded ids, against sentencepiece itself, and one id at a time."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from mindir_llm.tokenizer import SentencePieceTokenizer, TokenizerConfig, TokenizerError, load_tokenizer

PIECES = 400
CORPUS = [
    "Once upon a time there was a little fox.",
    "The fox found a red ball and said hello.",
    "  two  blanks",
]


def train(path: Path, **options: Any) -> Path:
    """A tiny BPE model with byte fallback, like Llama's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        vocab_size=PIECES,
        model_type="bpe",
        byte_fallback=True,
        hard_vocab_limit=False,
        minloglevel=2,
        **{"remove_extra_whitespaces": False, "normalization_rule_name": "identity", **options},
    )
    path.write_bytes(model.getvalue())
    return path


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return load_tokenizer(train(tmp_path_factory.mktemp("spm") / "tokenizer.model"))


VARIANTS = [{}, {"remove_extra_whitespaces": True}, {"add_dummy_prefix": False}]


@pytest.fixture(scope="module", params=VARIANTS, ids=["llama", "squeezing", "no-prefix"])
def variant(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SentencePieceTokenizer, sentencepiece.SentencePieceProcessor]:
    path = train(tmp_path_factory.mktemp("spm") / "tokenizer.model", **request.param)
    return load_tokenizer(path), sentencepiece.SentencePieceProcessor(model_file=str(path))


@pytest.fixture(scope="module")
def llama2(shared_data: Path) -> SentencePieceTokenizer:
    return load_tokenizer(shared_data / "tokenizers" / "llama2")


def test_llama2_vectors(llama2: SentencePieceTokenizer, shared_data: Path) -> None:
    directory = shared_data / "tokenizers" / "llama2"
    with open(directory / "vectors.inp", encoding="utf-8", newline="") as file:
        texts = file.read().split("\n__ggml_vocab_test__\n")
    with open(directory / "vectors.out", encoding="utf-8") as file:
        expected = [[int(index) for index in line.split()] for line in file.read().split("\n")]
    assert len(texts) == len(expected) == 47
    for text, ids in zip(texts, expected, strict=True):
        assert llama2.encode(text, add_special_tokens=False) == ids, repr(text)
        assert llama2.decode(ids) == text


def test_the_seed_documents_steps(llama2: SentencePieceTokenizer) -> None:
    ids = llama2("I love Beijing, because")["input_ids"]
    assert ids == [1, 306, 5360, 1522, 823, 292, 29892, 1363]
    assert llama2.decode(ids) == "<s>I love Beijing, because"
    assert llama2.decode(ids, skip_special_tokens=True) == "I love Beijing, because"


def test_call_takes_several_texts(tokenizer: SentencePieceTokenizer) -> None:
    both = tokenizer(["a fox", "the red ball"])
    assert both["input_ids"] == [tokenizer.encode("a fox"), tokenizer.encode("the red ball")]
    assert [len(row) for row in both["attention_mask"]] == [len(row) for row in both["input_ids"]]


def test_special_tokens_in_text_are_parsed_unless_told_otherwise(tokenizer: SentencePieceTokenizer) -> None:
    ids = tokenizer.encode("fox</s><s>ball", add_special_tokens=False)
    assert ids == [
        *tokenizer.encode("fox", False), 2, 1, *tokenizer.encode("ball", False),
    ]  # fmt: skip
    plain = tokenizer.encode("fox</s>", add_special_tokens=False, parse_special=False)
    assert 2 not in plain
    assert tokenizer.decode(plain) == "fox</s>"


def test_a_lone_surrogate_is_refused(tokenizer: SentencePieceTokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"lone surrogate .* at index 2"):
        tokenizer.encode("ab\ud800")


def test_ids_outside_the_vocabulary_are_refused(tokenizer: SentencePieceTokenizer) -> None:
    for index in (-1, tokenizer.vocab_size):
        with pytest.raises(TokenizerError, match=f"token id {index} is outside"):
            tokenizer.decode([index])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_decoding_in_parts_equals_sentencepiece(variant: Any, data: st.DataObject) -> None:
    ours, theirs = variant
    interesting = [ours.encode(text, False) for text in ("\u4f60\U0001f600", "  \u2581 ", "fox")]
    blank = theirs.piece_to_id("\u2581")
    one = st.one_of(
        st.integers(1, ours.vocab_size - 1),  # without <unk>, which SentencePiece spells " ⁇ "
        st.sampled_from([blank, 1, 2, 3 + 0xE4, 3 + 0xBD, 3 + 0xA0, 3 + 0xF0, 3 + 0x9F, 3 + 0x20]),
    )
    chunks = data.draw(st.lists(st.one_of(one.map(lambda i: [i]), st.sampled_from(interesting)), max_size=12))
    ids = [index for chunk in chunks for index in chunk]
    decoder = ours.stream_decoder()
    parts = [decoder.push(index) for index in ids] + [decoder.flush()]
    assert "".join(parts) == theirs.decode(ids)
    assert ours.decode(ids, skip_special_tokens=True) == theirs.decode(ids)


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_text_survives_a_round_trip(tokenizer: SentencePieceTokenizer, text: str) -> None:
    text = text.replace("\u2581", "").replace("\0", "")  # SentencePiece writes blanks as U+2581
    ids = tokenizer.encode(text, parse_special=False)
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    decoder = tokenizer.stream_decoder()
    for part in [decoder.push(index) for index in ids]:
        part.encode("utf-8")
        assert "\ufffd" in text or "\ufffd" not in part
    assert decoder.flush() == ""


def test_bytes_wait_for_their_character(tokenizer: SentencePieceTokenizer) -> None:
    decoder = tokenizer.stream_decoder()
    assert [decoder.push(3 + byte) for byte in "你".encode()] == ["", "", "你"]
    assert [decoder.push(3 + 0xE4), decoder.push(3 + 0x41), decoder.flush()] == ["", "\ufffdA", ""]
    assert [decoder.push(3 + 0xE4), decoder.flush()] == ["", "\ufffd"]


def test_token_text(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.token_text(1) == "<s>"
    assert tokenizer.token_text(3 + 0xE4) == "<0xE4>"
    assert tokenizer.token_text(3 + 0x0A) == "\n"


# -- where the settings come from


def write_bundle(directory: Path, model: Path, **changes: Any) -> Path:
    config = TokenizerConfig(
        kind="sentencepiece",
        files=("tokenizer.model",),
        add_bos_token=True,
        add_eos_token=False,
        bos_token_id=1,
        eos_token_id=2,
        stop_token_ids=(2,),
        chat_template=None,
    )
    content = model.read_bytes()
    manifest = {
        "tokenizer": {**config.to_manifest(), **changes},
        "files": {"tokenizer.model": {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}},
    }
    directory.mkdir(exist_ok=True)
    (directory / "tokenizer.model").write_bytes(content)
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("spm") / "tokenizer.model")


def test_a_bundle_is_read_back(tmp_path: Path, model_file: Path) -> None:
    tokenizer = load_tokenizer(write_bundle(tmp_path, model_file, add_bos_token=False, add_eos_token=True))
    assert tokenizer.encode("fox")[-1] == 2
    assert tokenizer.encode("fox")[0] != 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "wordpiece"}, "kind 'wordpiece' is not supported; this version reads: sentencepiece"),
        ({"colour": "red"}, "unknown field 'colour'"),
        ({"files": ["../tokenizer.model"]}, r"tokenizer.files is \['../tokenizer.model'\]"),
        ({"files": []}, "tokenizer.files"),
        ({"stop_token_ids": [-1]}, "tokenizer.stop_token_ids"),
        ({"bos_token_id": 99999}, "bos_token_id is 99999, but the vocabulary has"),
        ({"bos_token_id": -1}, "there is no bos_token_id"),
        ({"add_bos_token": 1}, "add_bos_token is 1, expected true or false"),
        ({"chat_template": 3}, "chat_template is 3"),
    ],
)
def test_bad_manifests_are_refused(
    tmp_path: Path, model_file: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TokenizerError, match=message):
        load_tokenizer(write_bundle(tmp_path, model_file, **changes))


def test_a_changed_tokenizer_file_is_refused(tmp_path: Path, model_file: Path) -> None:
    bundle = write_bundle(tmp_path, model_file)
    content = bytearray(model_file.read_bytes())
    content[100] ^= 1
    (bundle / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match=r"tokenizer\.model: differs from what manifest"):
        load_tokenizer(bundle)
    (bundle / "tokenizer.model").unlink()
    with pytest.raises(TokenizerError, match="missing from the bundle"):
        load_tokenizer(bundle)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(TokenizerError, match="not a SentencePiece model"):
        load_tokenizer(tmp_path / "tokenizer.model")


def test_nothing_to_load(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="neither a bundle"):
        load_tokenizer(tmp_path)
    (tmp_path / "manifest.json").write_text('{"tokenizer": null}')
    with pytest.raises(TokenizerError, match="exported without a tokenizer"):
        load_tokenizer(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(TokenizerError, match="not valid JSON"):
        load_tokenizer(tmp_path)


def test_a_checkpoint_s_settings(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model_file.read_bytes())
    (tmp_path / "config.json").write_text('{"eos_token_id": 2}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_bos_token": False,
                "bos_token": {"content": "<s>"},
                "eos_token": "</s>",
                "chat_template": [{"name": "tools", "template": "x"}, {"name": "default", "template": "y"}],
            }
        )
    )
    config = TokenizerConfig.from_checkpoint(tmp_path)
    assert config == TokenizerConfig("sentencepiece", ("tokenizer.model",), False, False, 1, 2, (2, 7), "y")
    assert TokenizerConfig.from_manifest(json.loads(json.dumps(config.to_manifest()))) == config
    (tmp_path / "added_tokens.json").write_text('{"<pad>": 32000}')
    with pytest.warns(UserWarning, match=r"added token '<pad>' \(id 32000\)"):
        assert TokenizerConfig.from_checkpoint(tmp_path) == config


def test_a_missing_begin_token_is_minus_one_in_the_manifest() -> None:
    config = TokenizerConfig("sentencepiece", ("tokenizer.model",), False, False, None, 2, (2,), None)
    assert config.to_manifest()["bos_token_id"] == -1
    assert TokenizerConfig.from_manifest(config.to_manifest()) == config


def test_an_unknown_special_token_is_refused(tmp_path: Path, model_file: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(model_file.read_bytes())
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>"}')
    with pytest.raises(TokenizerError, match=r"eos_token '<\|im_end\|>' is not in tokenizer.model"):
        TokenizerConfig.from_checkpoint(tmp_path)
