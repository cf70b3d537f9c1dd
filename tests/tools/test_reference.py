"""The float64 reference against goldens that other programs made, and against itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.tools.reference import CheckpointError, ReferenceLlama, Storage, log_softmax


def test_first_logits_and_200_greedy_ids_of_stories260k(stories: Path) -> None:
    golden = json.loads((stories / "golden_numpy.json").read_text())
    model = ReferenceLlama(stories)
    logits = model.feed(golden["prompt_ids"])
    # The golden is a float32 computation.
    np.testing.assert_allclose(logits, golden["logits_step0"], atol=1e-5)
    ids = list(golden["prompt_ids"])
    while len(ids) < len(golden["greedy_ids"]):
        ids.append(int(logits.argmax()))
        logits = model.feed(ids[-1:])
    assert ids == golden["greedy_ids"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config(head_dim=12, attention_bias=True)
    return write_checkpoint(tmp_path_factory.mktemp("reference"), config, random_tensors(config))


def test_cutting_a_text_changes_nothing(checkpoint: Path) -> None:
    ids = [3, 1, 4, 1, 5, 9, 2, 6]
    model = ReferenceLlama(checkpoint)
    whole = model.feed_all(ids)
    model.reset()
    pieces = np.concatenate([model.feed_all(ids[:3]), model.feed_all(ids[3:4]), model.feed_all(ids[4:])])
    np.testing.assert_allclose(pieces, whole, atol=1e-12)
    model.reset()
    np.testing.assert_allclose(model.feed_all(ids, rows=[2, 7]), whole[[2, 7]], atol=1e-12)


def test_llama3_scaling_stretches_long_wavelengths_only(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    config = tiny_config(head_dim=16)
    plain = ReferenceLlama(write_checkpoint(tmp_path / "a", config, random_tensors(config))).frequencies
    config["rope_scaling"] = scaling
    scaled = ReferenceLlama(write_checkpoint(tmp_path / "b", config, random_tensors(config))).frequencies
    wavelengths = 2 * math.pi / plain
    np.testing.assert_array_equal(scaled[wavelengths < 16], plain[wavelengths < 16])
    np.testing.assert_allclose(scaled[wavelengths > 64], plain[wavelengths > 64] / 8)
    between = (wavelengths >= 16) & (wavelengths <= 64)
    assert between.any()
    assert ((scaled < plain) & (scaled > plain / 8))[between].all()


def test_storage_rounds_as_a_bundle_stores(checkpoint: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((5, 7))
    half = Storage("float16").stored(weight, linear=True)
    np.testing.assert_array_equal(half, weight.astype(np.float16))
    quantized = Storage("float16", weight_bits=8).stored(weight, linear=True)
    largest = np.abs(weight).max(axis=1, keepdims=True)
    assert np.all(np.abs(quantized - weight) <= largest / 127 * 0.51)
    assert all(
        len(np.unique(np.round(row / s))) <= 255 for row, s in zip(quantized, largest / 127, strict=True)
    )
    np.testing.assert_array_equal(Storage("float16", weight_bits=8).stored(weight, linear=False), half)


def test_storage_of_int4_in_groups() -> None:
    weight = np.random.default_rng(0).standard_normal((5, 7))
    stored = Storage("float16", weight_bits=4, group_size=3).stored(weight, linear=True)
    for start in (0, 3, 6):
        group, kept = weight[:, start : start + 3], stored[:, start : start + 3]
        step = np.abs(group).max(axis=1, keepdims=True) / 7
        assert np.all(np.abs(kept - group) <= 0.505 * step)
        integers = kept / step.astype(np.float16)
        np.testing.assert_allclose(integers, np.round(integers), atol=1e-2)
        assert np.abs(np.round(integers)).max() == 7
    whole = Storage("float32", weight_bits=4).stored(weight, linear=True)
    step = np.abs(weight).max(axis=1, keepdims=True) / 7
    assert np.all(np.abs(whole - weight) <= 0.501 * step)


def test_errors_name_what_is_wrong(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        ReferenceLlama(tmp_path)
    config = tiny_config(num_hidden_layers=3)
    tensors = random_tensors(tiny_config())
    broken = write_checkpoint(tmp_path / "broken", config, tensors)
    with pytest.raises(CheckpointError, match=r"model\.layers\.2\."):
        ReferenceLlama(broken).feed([1])


def test_log_softmax_of_large_logits() -> None:
    np.testing.assert_allclose(log_softmax(np.array([1000.0, 1000.0])), [-math.log(2)] * 2)
