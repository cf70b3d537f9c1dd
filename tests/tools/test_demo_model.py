"""The demo model: its grammar, its tokenizer, its training network, and the checkpoint in the repository."""

from __future__ import annotations

import dataclasses
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from numpy.typing import NDArray

from mindir_llm.tools.demo_model import grammar
from mindir_llm.tools.demo_model.packing import BOS, EOS, IGNORED, pack
from mindir_llm.tools.demo_model.tokenizer_training import train_tokenizer
from mindir_llm.tools.reference import ReferenceLlama

CHECKPOINT = Path(__file__).resolve().parents[2] / "tools" / "demo_model" / "checkpoint"
NUMBERS = range(0, 2000)


# --- grammar ---


def test_story_is_a_function_of_its_number() -> None:
    program = (
        "from mindir_llm.tools.demo_model.grammar import story; print(*map(story, range(40)), sep='\\n')"
    )
    # Another process has another hash seed: no order of a set or dict of strings may leak into a story.
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [grammar.story(number) for number in range(40)]


def test_stories_differ() -> None:
    assert len({grammar.story(number) for number in NUMBERS}) == len(NUMBERS)


def test_stories_are_well_formed() -> None:
    for text in grammar.stories(NUMBERS.start, len(NUMBERS)):
        assert text.isascii() and "\n" not in text and "  " not in text, text
        assert not set(text) & set("{}_"), text
        assert text.count('"') % 2 == 0, text
        assert text[0].isupper() and text[-1] == ".", text
        assert 100 <= len(grammar.words(text)) <= 250, text
        assert "None" not in text
        words = grammar.words(text)
        for article, noun in itertools.pairwise(words):
            if article in ("a", "A"):
                assert noun[0] not in "aeiouAEIOU", f"{article} {noun}: {text}"
            if article in ("an", "An"):
                assert noun[0] in "aeiouAEIOU", f"{article} {noun}: {text}"
        # Sentences start with a capital letter, also those within quotes.
        for end in (". ", "! ", "? "):
            for after in text.split(end)[1:]:
                assert after.lstrip('"')[0].isupper(), text


def test_the_hero_keeps_name_and_nobody_else_walks_in() -> None:
    names = set(grammar.GIRL_NAMES) | set(grammar.BOY_NAMES)
    for number in NUMBERS:
        words = grammar.words(grammar.story(number))
        hero = grammar.hero_name(number)
        assert words.count(hero) >= 4, grammar.story(number)
        assert not (names - {hero}) & set(words), grammar.story(number)


def test_every_plot_is_told() -> None:
    lessons = (
        "ask for help",
        "kindness always",
        "winning is not",
        "never give up",
        "say sorry",
        "small steps",
    )
    told = " ".join(grammar.stories(0, 1000))
    assert all(lesson in told for lesson in lessons)


# --- tokenizer ---


@pytest.fixture(scope="module")
def tokenizer() -> bytes:
    return train_tokenizer(grammar.stories(0, 300), 512)


def test_tokenizer_training_is_deterministic(tokenizer: bytes) -> None:
    assert train_tokenizer(grammar.stories(0, 300), 512) == tokenizer


@pytest.mark.parametrize("text", [grammar.story(3), "", "  two  spaces ", "Zürich 東京 42\n\t", "\U0001f600"])
def test_tokenizer_round_trip(tokenizer: bytes, text: str) -> None:
    for model in (tokenizer, (CHECKPOINT / "tokenizer.model").read_bytes()):
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        ids = processor.encode(text)
        assert processor.decode(ids) == text
        assert processor.unk_id() not in ids


def test_tokenizer_numbers_its_special_tokens_as_llama_does(tokenizer: bytes) -> None:
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    assert [processor.id_to_piece(number) for number in (0, 1, 2, 3, 258)] == [
        "<unk>",
        "<s>",
        "</s>",
        "<0x00>",
        "<0xFF>",
    ]
    assert processor.vocab_size() == 512


# --- packing ---


def test_rows_start_with_documents_and_predict_within_them() -> None:
    documents = [[10, 11, 12], [20] * 50, [30, 31], [40, 41, 42, 43]]
    rows = pack(documents, length=7, rows=1)
    assert rows.ids.tolist() == [[BOS, 10, 11, 12, EOS, BOS, 30]]
    assert rows.documents.tolist() == [[0, 0, 0, 0, 0, 1, 1]]
    assert rows.targets.tolist() == [[10, 11, 12, EOS, IGNORED, 30, 31]]


def test_packing_says_when_documents_run_out() -> None:
    with pytest.raises(ValueError, match="fill only 1 of 2 rows"):
        pack([[5, 6, 7, 8]], length=5, rows=2)


# --- training network ---


def test_training_network_is_a_llama(tmp_path: Path) -> None:
    """What training computes, the reference computes from the written checkpoint: names, layouts, rotary
    halves, grouped heads, norms. And a document's logits are the same wherever in a row it lies."""
    ms = pytest.importorskip("mindspore")
    from mindir_llm.tools.demo_model.checkpoint_files import write_checkpoint
    from mindir_llm.tools.demo_model.network import Shape, TrainingLlama

    shape = Shape(
        vocab_size=64,
        hidden_size=24,
        intermediate_size=40,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    network = TrainingLlama(shape, length=20, seed=5)
    generator = np.random.default_rng(0)
    for parameter in network.trainable_params():
        # Values that float16 holds exactly, and gains that are not all one.
        values = parameter.asnumpy() + (
            generator.normal(0, 0.2, parameter.shape) if parameter.ndim == 1 else 0
        )
        parameter.set_data(ms.Tensor(values.astype(np.float16).astype(np.float32)))
    write_checkpoint(tmp_path, shape, network.weights(), b"no tokenizer")

    documents = [generator.integers(0, 64, 12), generator.integers(0, 64, 8)]
    ids = np.concatenate(documents)[None].astype(np.int32)
    owner = np.repeat(np.arange(2, dtype=np.int32), (12, 8))[None]

    @ms.jit
    def forward(ids: ms.Tensor, owner: ms.Tensor) -> ms.Tensor:
        return network(ids, owner)

    logits = forward(ms.Tensor(ids), ms.Tensor(owner)).asnumpy()
    expected = [ReferenceLlama(tmp_path).feed_all(document) for document in documents]
    np.testing.assert_allclose(logits, np.concatenate(expected), atol=2e-5)


def test_a_few_steps_of_training_write_a_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("mindspore")
    from mindir_llm.tools.demo_model.make import make
    from mindir_llm.tools.demo_model.network import Shape
    from mindir_llm.tools.demo_model.train import Settings

    shape = Shape(
        vocab_size=512,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
    )
    # Two rounds, the second one from what the first has written.
    first = Settings(
        steps=8, batch=2, length=400, warmup=2, evaluate_every=4, held_out_rows=2, peak_rate=2e-2
    )
    rounds = [first, dataclasses.replace(first, steps=4, first_story=100, peak_rate=1e-2)]
    loss = make(tmp_path, shape, rounds)
    assert 2 < loss < np.log(512)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.model",
        "tokenizer_config.json",
    ]


# --- the checkpoint in the repository ---


def test_checkpoint_is_small_and_complete() -> None:
    files = {path.name: path.stat().st_size for path in CHECKPOINT.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json"} <= set(files)
    assert {"generation_config.json", "MODEL_CARD.md"} <= set(files)
    assert files["model.safetensors"] < 5_000_000


def test_checkpoint_has_the_tensors_its_config_promises() -> None:
    load = pytest.importorskip("safetensors.numpy").load_file
    config = json.loads((CHECKPOINT / "config.json").read_text(encoding="utf-8"))
    tensors: dict[str, NDArray[np.float16]] = load(CHECKPOINT / "model.safetensors")
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    q_width = config["num_attention_heads"] * config["head_dim"]
    kv_width = config["num_key_value_heads"] * config["head_dim"]
    expected: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config["vocab_size"], hidden),
        "model.norm.weight": (hidden,),
    }
    for layer in range(config["num_hidden_layers"]):
        for name, shape in {
            "input_layernorm": (hidden,),
            "post_attention_layernorm": (hidden,),
            "self_attn.q_proj": (q_width, hidden),
            "self_attn.k_proj": (kv_width, hidden),
            "self_attn.v_proj": (kv_width, hidden),
            "self_attn.o_proj": (hidden, q_width),
            "mlp.gate_proj": (inner, hidden),
            "mlp.up_proj": (inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }.items():
            expected[f"model.layers.{layer}.{name}.weight"] = shape
    assert {name: tensor.shape for name, tensor in tensors.items()} == expected
    assert {tensor.dtype for tensor in tensors.values()} == {np.dtype(np.float16)}
    processor = sentencepiece.SentencePieceProcessor(model_file=str(CHECKPOINT / "tokenizer.model"))
    assert processor.vocab_size() == config["vocab_size"]


def test_exporter_takes_the_checkpoint() -> None:
    from mindir_llm.models.config import LlamaConfig

    config = LlamaConfig.from_file(CHECKPOINT / "config.json")
    assert (config.rope_theta, config.rms_norm_eps, config.tie_word_embeddings) == (10000.0, 1e-5, True)


def test_checkpoint_tells_a_story() -> None:
    """Greedy in float64: a whole story, ended by the model itself, in the grammar's words, about one hero."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(CHECKPOINT / "tokenizer.model"))
    model = ReferenceLlama(CHECKPOINT)
    ids = [BOS, *processor.encode("Once upon a time")]
    logits = model.feed(ids)
    while len(ids) < 400 and ids[-1] != EOS:
        ids.append(int(logits.argmax()))
        logits = model.feed(ids[-1:])
    text = processor.decode(ids)
    assert ids[-1] == EOS, text
    words = grammar.words(text)
    assert 80 <= len(words) <= 250, text
    assert text.count('"') % 2 == 0, text
    names = set(grammar.GIRL_NAMES) | set(grammar.BOY_NAMES)
    heroes = names & set(words)
    assert len(heroes) == 1, text
    assert words.count(heroes.pop()) >= 4, text
    assert set(words) <= grammar.vocabulary(), text
