"""The engine's byte-level tokenizers equal those of Hugging Face's tokenizers package."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from byte_level_models import FAMILIES, finish, llama3, qwen2
from hypothesis import given, settings
from hypothesis import strategies as st
from text_samples import BYTES, SAMPLES, UNICODE
from tokenizers import AddedToken, Tokenizer, models, normalizers, processors, trainers

from mindir_llm.runtime.tokenizer import EngineTokenizer
from mindir_llm.tokenizer import TokenizerError

BOTH = tuple[EngineTokenizer, Tokenizer]

ADDED = [
    AddedToken("<|end|>", special=True, normalized=False),
    AddedToken("<|end|>x", special=False, normalized=False),
    AddedToken("<strip>", special=True, lstrip=True, rstrip=True, normalized=False),
    AddedToken("word", special=False, single_word=True, normalized=False),
    AddedToken("  ", special=False, normalized=False),
    AddedToken("w\u00f6rd", special=False, normalized=True),
    AddedToken("<é▁>", special=True, normalized=True),
]
PARTS = st.lists(
    st.one_of(
        UNICODE,
        st.sampled_from([token.content for token in ADDED]),
        st.sampled_from([" ", "a", "_", "word ", "wo\u0308rd", "<|end|", "\u3000", "\n"]),
    ),
    max_size=8,
).map("".join)


def trained(pre_tokenizer: Any, **options: Any) -> Tokenizer:
    """A small vocabulary of the samples."""
    tokenizer = Tokenizer(models.BPE(**options))
    if "nfc" in options:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=900, show_progress=False, initial_alphabet=sorted(pre_tokenizer_alphabet())
    )
    tokenizer.train_from_iterator([*SAMPLES.values()] * 3, trainer)
    return tokenizer


def pre_tokenizer_alphabet() -> list[str]:
    from byte_level_models import alphabet

    return alphabet()


@pytest.fixture(scope="module", params=FAMILIES.items(), ids=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BOTH:
    name, pre_tokenizer = request.param
    theirs = trained(pre_tokenizer)
    if name in ("qwen2", "removed"):
        theirs.normalizer = normalizers.Sequence([normalizers.NFC()])
    theirs.model.ignore_merges = name == "llama3"
    finish(theirs, pre_tokenizer, ADDED)
    path = tmp_path_factory.mktemp("json") / "tokenizer.json"
    theirs.save(str(path))
    return EngineTokenizer(path), theirs


@pytest.fixture(scope="module")
def llama3_both(shared_data: Path) -> BOTH:
    path = shared_data / "tokenizers" / "llama3" / "tokenizer.model"
    return EngineTokenizer(path), llama3(path)


@pytest.fixture(scope="module")
def qwen2_both(shared_data: Path) -> BOTH:
    folder = shared_data / "tokenizers" / "qwen2"
    return EngineTokenizer(folder), qwen2(folder)


@pytest.fixture(scope="module", params=["llama3", "qwen2"])
def real(request: pytest.FixtureRequest) -> BOTH:
    return request.getfixturevalue(f"{request.param}_both")


def check(both: BOTH, text: str) -> None:
    ours, theirs = both
    expected = theirs.encode(text, add_special_tokens=False).ids
    assert ours.encode(text, add_special_tokens=False) == expected
    for skip in (True, False):
        assert ours.decode(expected, skip) == theirs.decode(expected, skip_special_tokens=skip)


@pytest.mark.parametrize("name", SAMPLES)
def test_samples(family: BOTH, name: str) -> None:
    check(family, SAMPLES[name])


@settings(max_examples=120, deadline=None)
@given(text=PARTS)
def test_any_text(family: BOTH, text: str) -> None:
    check(family, text)


@pytest.mark.parametrize("character", "a_é²½①Ⅷⓐ🅰٣\u0300\u200c\u200d\u2160\u203f-.")
def test_what_a_single_word_stands_beside(family: BOTH, character: str) -> None:
    check(family, f"{character}word")
    check(family, f"word{character}")


@settings(max_examples=40, deadline=None)
@given(text=PARTS)
def test_special_tokens_as_text(family: BOTH, text: str) -> None:
    ours, theirs = family
    theirs.encode_special_tokens = True
    try:
        expected = theirs.encode(text, add_special_tokens=False).ids
    finally:
        theirs.encode_special_tokens = False
    assert ours.encode(text, add_special_tokens=False, parse_special=False) == expected


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_decoding_in_parts_equals_theirs(family: BOTH, data: st.DataObject) -> None:
    ours, theirs = family
    size = theirs.get_vocab_size()
    assert ours.vocab_size == size
    ids = data.draw(st.lists(st.one_of(st.integers(0, size - 1), st.integers(0, 255)), max_size=16))
    for skip in (True, False):
        decoder = ours.stream_decoder(skip)
        parts = [decoder.push(index) for index in ids]
        assert "".join(parts) + decoder.flush() == theirs.decode(ids, skip_special_tokens=skip)


@settings(max_examples=40, deadline=None)
@given(text=BYTES)
def test_bytes_that_are_no_text_are_replaced(family: BOTH, text: bytes) -> None:
    ours = family[0]
    assert ours.encode_bytes(text) == ours.encode(text.decode("utf-8", "replace"))


def test_vocabulary(family: BOTH) -> None:
    ours, theirs = family
    for spelling, index in theirs.get_vocab().items():
        assert ours.spelling(index) == spelling
        assert ours.token_id(spelling) == index
    special = [index for index, token in theirs.get_added_tokens_decoder().items() if token.special]
    assert ours.all_special_ids == sorted(special)


@pytest.mark.parametrize("unit", ["a", "A", " ", "ab", "가\u0301", " \t"])
def test_long_runs_take_no_quadratic_time(family: BOTH, unit: str) -> None:
    ours, theirs = family
    short = unit * 1500 + "b"
    assert ours.encode(short, False) == theirs.encode(short, add_special_tokens=False).ids
    ours.encode(unit * 200_000 + "b")  # a quadratic encoder would take minutes


def test_real_samples_and_a_megabyte(real: BOTH, shared_data: Path) -> None:
    for text in SAMPLES.values():
        check(real, text)
    check(real, (shared_data / "text" / "tinyshakespeare_input.txt").read_text(encoding="utf-8"))


@settings(max_examples=500, deadline=None)
@given(text=UNICODE)
def test_real_any_text(real: BOTH, text: str) -> None:
    check(real, text)
    normalizer = real[1].normalizer
    whole = text if normalizer is None else normalizer.normalize_str(text)
    assert real[0].decode(real[0].encode(text, add_special_tokens=False)) == whole


def test_llama3_settings(llama3_both: BOTH) -> None:
    ours = llama3_both[0]
    assert (ours.bos_token_id, ours.eos_token_id, ours.vocab_size) == (128000, 128001, 128256)
    assert ours.encode("<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>")[:3] == [
        128000,
        128006,
        882,
    ]
    assert ours.encode("<|eot_id|>", False, False) != [128009]


def test_qwen2_settings(qwen2_both: BOTH) -> None:
    ours = qwen2_both[0]
    assert (ours.bos_token_id, ours.eos_token_id, ours.vocab_size) == (None, 151645, 151665)
    assert ours.encode("<|im_start|>user\nHi<|im_end|>") == [151644, 872, 198, 13048, 151645]
    assert ours.chat_template is not None
    text = ours.apply_chat_template([{"role": "user", "content": "Hi"}], tokenize=False)
    assert isinstance(text, str) and text.endswith("<|im_start|>user\nHi<|im_end|>\n")


def write(path: Path, change: Any = None) -> Path:
    """A small tokenizer.json, changed by `change(content)`."""
    theirs = finish(trained(FAMILIES["llama3"]), FAMILIES["llama3"], ADDED)
    theirs.post_processor = processors.TemplateProcessing(
        single="<|end|> $A <strip>",
        special_tokens=[(token, theirs.token_to_id(token)) for token in ("<|end|>", "<strip>")],
    )
    content = json.loads(theirs.to_str())
    if change is not None:
        change(content)
    path.write_text(json.dumps(content))
    return path


def test_tokens_around_a_text(tmp_path: Path) -> None:
    path = write(tmp_path / "tokenizer.json")
    ours, theirs = EngineTokenizer(path), Tokenizer.from_file(str(path))
    assert ours.encode("a word") == theirs.encode("a word").ids
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"bos_token": {"content": "<strip>"}, "eos_token": "<|end|>", "add_eos_token": False})
    )
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [5, 6]}')
    ours = EngineTokenizer(tmp_path)
    assert (ours.bos_token_id, ours.eos_token_id) == (ours.token_id("<strip>"), ours.token_id("<|end|>"))
    assert ours.stop_token_ids == (5, 6)
    assert ours.encode("a") == [ours.bos_token_id, *ours.encode("a", False)]
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<nothing>"}')
    with pytest.raises(TokenizerError, match='field eos_token: "<nothing>" is not in the tokenizer'):
        EngineTokenizer(tmp_path)


def put(name: str, value: Any) -> Any:
    def change(content: Any) -> None:
        *parents, last = name.split(".")
        for part in parents:
            content = content[part]
        content[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("model.type", "WordPiece"), 'model.type: the model "WordPiece" is not supported'),
        (put("model.byte_fallback", True), "model.byte_fallback: byte_fallback"),
        (put("model.merges", [["a", "nothing"]]), 'model.merges: a merge of "a" and "nothing"'),
        (put("model.merges", ["a b c"]), "no pair with a blank between"),
        (put("model.merges", [["a"]]), "less than two tokens"),
        (put("model.vocab", {}), "model.vocab: the vocabulary is empty"),
        (put("model.vocab", {"a": 1, "b": 1}), "the id 1 appears twice"),
        (put("model.vocab", {"a": -1}), "expected an integer"),
        (put("model.vocab", {"a": 9_000_000}), "too far apart"),
        (put("added_tokens", [{"id": 16_000_000, "content": "x"}]), "far from the vocabulary"),
        (
            put("added_tokens", [{"id": 1, "content": ""}]),
            r"added_tokens\[0\].content: an added token must not",
        ),
        (put("normalizer", {"type": "Lowercase"}), 'normalizer: the normalizer "Lowercase" is not supported'),
        (put("pre_tokenizer", None), "only byte-level BPE is supported"),
        (put("pre_tokenizer", {"type": "Whitespace"}), 'pre_tokenizer: the pre-tokenizer "Whitespace"'),
        (put("post_processor", {"type": "BertProcessing"}), 'the post-processor "BertProcessing"'),
        (put("model", 3), "expected an object"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path: Path, change: Any, message: str) -> None:
    path = write(tmp_path / "tokenizer.json", change)
    with pytest.raises(TokenizerError, match=message) as found:
        EngineTokenizer(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(",
            ")",
            "a)",
            "(?<=a)b",
            "a{2",
            "a{3,2}",
            "a{99999}",
            "[a",
            "[[:alpha:]]",
            "[z-a]",
            "*",
            r"\p{Han}",
        ),
        *(r"\q", r"(?!ab)", "(?i:é)", "(a+)++", "a****", "\\", "a" * 70_000, "(" * 100 + ")" * 100),
        "((a{99}){99}){99}",
        "((((){999}){999}){999}){999}",
    ],
    ids=lambda pattern: pattern[:20],
)
def test_patterns_that_are_not_supported_are_refused(tmp_path: Path, pattern: str) -> None:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    path = write(
        tmp_path / "tokenizer.json",
        lambda content: content["pre_tokenizer"]["pretokenizers"].insert(0, split),
    )
    with pytest.raises(TokenizerError, match="the regular expression is not supported"):
        EngineTokenizer(path)


@pytest.mark.parametrize(
    "pattern", ["(a|a)*b", "(a*)*b", "(?:a|aa)+$", r"\s+$", "(a?){20}a{20}", "(?:(?:a+)+)+b"]
)
def test_no_pattern_takes_exponential_time(tmp_path: Path, pattern: str) -> None:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    path = write(
        tmp_path / "tokenizer.json",
        lambda content: content["pre_tokenizer"]["pretokenizers"].insert(0, split),
    )
    ours = EngineTokenizer(path)
    for text in ("a" * 3000 + "c", " " * 3000 + "c", "ab" * 1000):
        assert ours.decode(ours.encode(text, False, False)) == text


def test_damaged_files_are_refused_or_work(tmp_path: Path, shared_data: Path) -> None:
    """A changed byte may give a tokenizer that is valid and another one; nothing may crash."""
    ranks = (shared_data / "tokenizers" / "llama3" / "tokenizer.model").read_bytes()[:20_000]
    (tmp_path / "json").mkdir()
    (tmp_path / "vocab").mkdir()
    content = json.loads(write(tmp_path / "json" / "tokenizer.json").read_text())
    files = {
        "json": {"tokenizer.json": (tmp_path / "json" / "tokenizer.json").read_bytes()},
        "vocab": {
            "vocab.json": json.dumps(content["model"]["vocab"]).encode(),
            "merges.txt": "\n".join(" ".join(pair) for pair in content["model"]["merges"]).encode(),
            "tokenizer_config.json": b'{"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": true}',
        },
        "ranks": {"tokenizer.model": ranks[: ranks.rindex(b"\n")]},
    }
    text = "".join(SAMPLES.values())
    source = random.Random(7)
    for kind, parts in files.items():
        opened = 0
        for attempt in range(120):
            folder = tmp_path / f"{kind}{attempt}"
            folder.mkdir()
            for name, original in parts.items():
                changed = bytearray(original)
                for _ in range(source.choice([0, 1, 1, 3])):
                    at = source.randrange(len(changed))
                    changed[at] = source.choice(b'"{}[],:0 \\a\n\xff')
                if source.random() < 0.1:
                    del changed[source.randrange(len(changed)) :]
                (folder / name).write_bytes(changed)
            try:
                tokenizer = EngineTokenizer(folder)
            except TokenizerError as error:
                assert str(folder) in str(error)
                continue
            opened += 1
            tokenizer.decode(tokenizer.encode(text))
            tokenizer.decode(range(tokenizer.vocab_size))
        assert 0 < opened < 120, kind
