"""Bundles carry every kind of tokenizer: exported with it, run with it, checked like any other file."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from byte_level_models import FAMILIES, alphabet, finish
from exporting import Exporter
from text_samples import SAMPLES
from tokenizers import AddedToken, Tokenizer, models, normalizers, processors, trainers

from mindir_llm.runtime import LLM, EngineTokenizer, SamplingParams
from mindir_llm.tokenizer import TokenizerError, load_tokenizer

VOCAB_SIZE = 1000
PROMPT = "<|im_start|>The 1234 boats we'VE seen…<|im_end|>\n"


def trained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = FAMILIES["llama3"]
    trainer = trainers.BpeTrainer(vocab_size=700, show_progress=False, initial_alphabet=alphabet())
    tokenizer.train_from_iterator([*SAMPLES.values()] * 3, trainer)
    return tokenizer


def write_json(folder: Path, theirs: Tokenizer) -> None:
    theirs.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", theirs.token_to_id("<|im_start|>"))]
    )
    theirs.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text('{"eos_token": "<|im_end|>", "chat_template": "{{ 1 }}"}')


def write_settings(folder: Path, theirs: Tokenizer, **settings: Any) -> None:
    added = {
        str(index): {"content": token.content, "special": token.special, "normalized": False}
        for index, token in theirs.get_added_tokens_decoder().items()
    }
    settings |= {"added_tokens_decoder": added, "eos_token": "<|im_end|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_vocab(folder: Path, theirs: Tokenizer) -> None:
    theirs.model.save(str(folder))
    theirs.normalizer = normalizers.NFC()
    theirs.pre_tokenizer = FAMILIES["qwen2"]
    write_settings(folder, theirs, tokenizer_class="Qwen2Tokenizer")


def write_ranks(folder: Path, theirs: Tokenizer) -> None:
    letters = {letter: byte for byte, letter in enumerate(alphabet())}
    vocab = theirs.get_vocab(with_added_tokens=False)
    lines = [
        f"{base64.b64encode(bytes(letters[letter] for letter in token)).decode()} {index}\n"
        for token, index in sorted(vocab.items(), key=lambda item: item[1])
    ]
    (folder / "tokenizer.model").write_text("".join(lines))
    theirs.model.ignore_merges = True
    write_settings(folder, theirs)


WRITERS = {"tokenizer.json": write_json, "vocab+merges": write_vocab, "tiktoken": write_ranks}


@pytest.fixture(scope="module", params=WRITERS)
def made(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, exported: Exporter
) -> tuple[str, Path, Path, Tokenizer]:
    """Kind, checkpoint, bundle, and the tokenizer that it should be."""
    from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

    config = tiny_config(vocab_size=VOCAB_SIZE, max_position_embeddings=64)
    folder = write_checkpoint(tmp_path_factory.mktemp("byte-level"), config, random_tensors(config))
    added = [AddedToken(token, special=True) for token in ("<|im_start|>", "<|im_end|>")]
    theirs = finish(trained(), FAMILIES["llama3"], added)
    end = theirs.token_to_id("<|im_end|>")
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [end, 7]}))
    WRITERS[request.param](folder, theirs)
    return request.param, folder, exported(folder, dtype="float32", prefill_chunk=8), theirs


def test_the_bundle_s_tokenizer_is_the_checkpoint_s(made: tuple[str, Path, Path, Tokenizer]) -> None:
    kind, checkpoint, bundle, theirs = made
    section = json.loads((bundle / "manifest.json").read_text())["tokenizer"]
    end = theirs.token_to_id("<|im_end|>")
    assert section["kind"] == kind
    assert section["eos_token_id"] == end and section["stop_token_ids"] == [7, end]
    ours, original = EngineTokenizer(bundle), EngineTokenizer(checkpoint)
    for text in (PROMPT, *SAMPLES.values()):
        assert ours.encode(text) == original.encode(text) == theirs.encode(text).ids
    assert ours.stop_token_ids == (7, end) and set(original.stop_token_ids) == {7, end}
    assert (ours.bos_token_id, ours.eos_token_id) == (original.bos_token_id, original.eos_token_id)
    assert ours.chat_template == original.chat_template
    assert ours.adds_bos_token == (kind == "tokenizer.json")
    with pytest.raises(TokenizerError, match="read by the engine"):
        load_tokenizer(bundle)


def test_the_host_reads_a_tokenizer_json_like_the_engine(made: tuple[str, Path, Path, Tokenizer]) -> None:
    """Calibration reads texts with it."""
    kind, checkpoint, _, _ = made
    if kind != "tokenizer.json":
        with pytest.raises(TokenizerError):
            load_tokenizer(checkpoint)
        return
    ours, host = EngineTokenizer(checkpoint), load_tokenizer(checkpoint)
    for text in (PROMPT, *SAMPLES.values()):
        for special in (True, False):
            assert host.encode(text, special, special) == ours.encode(text, special, special)
        ids = ours.encode(text)
        decoder = host.stream_decoder()
        assert "".join([decoder.push(index) for index in ids]) + decoder.flush() == ours.decode(ids, True)
    for name in ("vocab_size", "bos_token_id", "eos_token_id", "all_special_ids", "chat_template"):
        assert getattr(host, name) == getattr(ours, name), name
    assert set(host.stop_token_ids) == set(ours.stop_token_ids)
    assert [host.spelling(index) for index in range(300)] == [ours.spelling(index) for index in range(300)]
    with pytest.raises(TokenizerError, match="outside the vocabulary"):
        host.spelling(len(host))


def test_text_in_text_out(made: tuple[str, Path, Path, Tokenizer]) -> None:
    _kind, _, bundle, theirs = made
    with LLM(bundle) as llm:
        (output,) = llm.generate([PROMPT], SamplingParams(temperature=0.0, max_tokens=12))
        assert output.prompt_token_ids == theirs.encode(PROMPT).ids
        (answer,) = output.outputs
        assert answer.text == theirs.decode(answer.token_ids, skip_special_tokens=True)
        assert "".join(llm.stream(PROMPT, SamplingParams(temperature=0.0, max_tokens=12))) == answer.text


def test_changed_files_are_refused(made: tuple[str, Path, Path, Tokenizer], tmp_path: Path) -> None:
    _, _, bundle, _ = made
    for name in json.loads((bundle / "manifest.json").read_text())["tokenizer"]["files"]:
        copy = tmp_path / name
        shutil.copytree(bundle, copy)
        content = bytearray((copy / name).read_bytes())
        content[len(content) // 2] ^= 1
        (copy / name).write_bytes(content)
        with pytest.raises(TokenizerError, match=rf"{name}: differs from what manifest"):
            EngineTokenizer(copy)
        (copy / name).unlink()
        with pytest.raises(TokenizerError, match=name):
            EngineTokenizer(copy)


def test_a_sentencepiece_bundle(tiny_bundle: Path, tiny_checkpoint: Path) -> None:
    ours, host, original = (
        EngineTokenizer(tiny_bundle),
        load_tokenizer(tiny_bundle),
        EngineTokenizer(tiny_checkpoint),
    )
    for text in SAMPLES.values():
        assert ours.encode(text) == host.encode(text) == original.encode(text)
    assert ours.stop_token_ids == host.stop_token_ids == original.stop_token_ids
