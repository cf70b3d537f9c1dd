"""Real bundles for the tests that drive the engine: exported once per run from small checkpoints.

Nothing here builds the engine: mindir_llm.runtime finds it, or the test fails with the reason.
"""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from exporting import Exporter

# Checkpoint writers are shared with the tests of export.
sys.path.append(str(Path(__file__).parents[1] / "export"))
# MindSpore reads its log level when it is imported for the first time.
os.environ.setdefault("GLOG_v", "3")

VOCAB_SIZE = 330
CORPUS = ["Once upon a time there was a little fox.", "The fox found a red ball and said hello."]


def write_tokenizer(path: Path) -> None:
    """A tiny SentencePiece model with byte fallback, like Llama's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS * 20),
        model_writer=model,
        vocab_size=VOCAB_SIZE,
        model_type="bpe",
        byte_fallback=True,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
        minloglevel=2,
    )
    path.write_bytes(model.getvalue())


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers with a tokenizer of its own."""
    from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

    config = tiny_config(vocab_size=VOCAB_SIZE, max_position_embeddings=64, bos_token_id=1)
    folder = write_checkpoint(tmp_path_factory.mktemp("tiny"), config, random_tensors(config))
    write_tokenizer(folder / "tokenizer.model")
    return folder


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exporter:
    """export(checkpoint, **ExportOptions) → bundle; the same request is exported once."""
    from mindir_llm.export import ExportOptions, export_bundle

    done: dict[Any, Path] = {}

    def export(checkpoint: Path, **options: Any) -> Path:
        key = (checkpoint, *sorted(options.items()))
        if key not in done:
            done[key] = tmp_path_factory.mktemp("bundles") / "bundle"
            export_bundle(checkpoint, done[key], ExportOptions(**options))
        return done[key]

    return export


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, exported: Exporter) -> Path:
    """float32, one slot, chunks of 8, 64 tokens of context."""
    return exported(tiny_checkpoint, dtype="float32", prefill_chunk=8)
