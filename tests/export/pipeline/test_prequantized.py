"""Checkpoints that others have quantized become bundles with the same integers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runner import BundleRunner
from numpy.typing import NDArray
from numpy_llama import all_logits
from pipelines import IDS, dequantized, held
from safetensors.numpy import save_file
from tiny_checkpoint import random_tensors, tiny_config

from mindir_llm.export import ExportError, ExportOptions, export_bundle
from mindir_llm.tools.backends import BundleFolder, EngineBackend
from mindir_llm.tools.reference import ReferenceLlama

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "quantized_checkpoints"))
from packers import awq_tensors, gptq_tensors

CONFIG = tiny_config(
    hidden_size=64, intermediate_size=96, vocab_size=64, num_attention_heads=4, max_position_embeddings=32
)


def write_quantized(
    folder: Path, method: str, group: int, symmetric: bool, scattered: bool = False
) -> dict[str, NDArray[np.float64]]:
    """A checkpoint whose linear layers are random integers, lm_head excepted; returns what it stands for."""
    rng = np.random.default_rng(3)
    stored: dict[str, Any] = {}
    meant: dict[str, NDArray[np.float64]] = {}
    for name, values in random_tensors(CONFIG).items():
        if values.ndim != 2 or "embed" in name or "lm_head" in name:
            stored[name] = values.astype(np.float16)
            meant[name] = stored[name].astype(np.float64)
            continue
        module = name.removesuffix(".weight")
        outputs, inputs = values.shape
        size = group or inputs
        groups = -(-inputs // size)
        integers = rng.integers(0, 16, values.shape)
        zero = np.full((outputs, groups), 8) if symmetric else rng.integers(4, 12, (outputs, groups))
        scale = rng.uniform(0.01, 0.05, (outputs, groups)).astype(np.float16)
        group_of = np.arange(inputs) // size
        if scattered:
            group_of = rng.permutation(group_of)
        if method == "awq":
            stored |= awq_tensors(module, integers, zero, scale)
        else:
            stored |= gptq_tensors(module, integers, zero, scale, group_of, 4)
            stored[f"{module}.bias"] = np.zeros(outputs, np.float16)
        meant[name] = (integers - zero[:, group_of]) * scale.astype(np.float64)[:, group_of]
    quantization = {"quant_method": method, "bits": 4, "group_size": group or -1}
    if method == "gptq":
        quantization |= {"sym": symmetric, "desc_act": scattered}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": quantization}))
    save_file(stored, folder / "model.safetensors")
    return meant


def logits_of(bundle: Path) -> NDArray[np.float32]:
    return BundleRunner(bundle).feed(IDS)


OPTIONS = {"dtype": "float32", "max_seq_len": 16, "prefill_chunk": 4}


@pytest.mark.parametrize("group", [0, 32, 64])
def test_symmetric_gptq_keeps_its_integers(group: int, tmp_path: Path) -> None:
    meant = write_quantized(tmp_path / "checkpoint", "gptq", group, symmetric=True)
    bundle = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(**OPTIONS))
    np.testing.assert_allclose(logits_of(bundle), all_logits(CONFIG, meant, IDS)[-1], atol=2e-4)
    entry = json.loads((bundle / "manifest.json").read_text())["quantization"]
    assert entry["scheme"] == "a16w4" and entry["method"] == "gptq"
    if group != 64:  # which is all inputs of some layers
        assert entry["layers"] == {"lm_head": None}
    if group == 32:
        for name, values in dequantized(held(bundle)).items():
            np.testing.assert_array_equal(values, meant[name], err_msg=name)


@pytest.mark.parametrize("group", [0, 32, 64])
@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_zero_points_are_kept(method: str, group: int, tmp_path: Path) -> None:
    meant = write_quantized(tmp_path / "checkpoint", method, group, symmetric=False)
    bundle = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(**OPTIONS))
    np.testing.assert_allclose(logits_of(bundle), all_logits(CONFIG, meant, IDS)[-1], atol=2e-4)
    reference = ReferenceLlama(tmp_path / "checkpoint", BundleFolder.open(bundle).storage)
    np.testing.assert_allclose(reference.feed(IDS), all_logits(CONFIG, meant, IDS)[-1], atol=2e-5)
    original = ReferenceLlama(tmp_path / "checkpoint")
    np.testing.assert_allclose(original.feed(IDS), all_logits(CONFIG, meant, IDS)[-1], atol=1e-5)


@pytest.mark.parametrize("symmetric", [True, False])
def test_scattered_groups_are_kept(symmetric: bool, tmp_path: Path) -> None:
    """Stock MindSpore, the engine over graphs of both targets, and the float64 reference over the bundle."""
    checkpoint = tmp_path / "checkpoint"
    meant = write_quantized(checkpoint, "gptq", 32, symmetric, scattered=True)
    expected = all_logits(CONFIG, meant, IDS)
    bundle = export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(**OPTIONS))
    np.testing.assert_allclose(logits_of(bundle), expected[-1], atol=2e-4)
    opened = BundleFolder.open(bundle)
    steps = (4, 4, 3, 1, 1, 1)
    ids = np.array([IDS], np.int32)
    engine = EngineBackend(opened).logits(ids, steps)[:, 0]
    np.testing.assert_allclose(engine, expected[np.cumsum(steps) - 1], atol=2e-4)
    reference = ReferenceLlama(checkpoint, opened.storage)
    np.testing.assert_allclose(reference.feed_all(IDS), expected, atol=2e-5)
    halves = {
        target: BundleFolder.open(
            export_bundle(
                checkpoint,
                tmp_path / target,
                ExportOptions(**(OPTIONS | {"dtype": "float16"}), target=target),
            )
        )
        for target in ("cpu", "ascend")
    }
    for exact in (True, False):
        cpu, ascend = (EngineBackend(half, exact=exact).logits(ids, steps) for half in halves.values())
        np.testing.assert_array_equal(cpu, ascend)
        # Rounded caches, and activations in int8.
        tolerance = (0.005 if exact else 0.1) * np.abs(expected).max()
        np.testing.assert_allclose(cpu[:, 0], expected[np.cumsum(steps) - 1], atol=tolerance)

    entry = json.loads((bundle / "manifest.json").read_text())["quantization"]
    assert entry["weight_bits"] == 4 and entry["group_size"] == 32 and entry["reordered_inputs"]
    # The layers before down_proj put out what it wants in its order.
    assert {name for name, other in entry["layers"].items() if other and "reordered_inputs" not in other} == {
        f"model.layers.{layer}.mlp.down_proj" for layer in range(CONFIG["num_hidden_layers"])
    }


def test_scattered_groups_of_other_sizes_are_rounded_to_int8(tmp_path: Path) -> None:
    meant = write_quantized(tmp_path / "checkpoint", "gptq", 16, symmetric=True, scattered=True)
    with pytest.warns(UserWarning, match="groups of other sizes than multiples of 32"):
        bundle = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(**OPTIONS))
    expected = all_logits(CONFIG, meant, IDS)[-1]
    assert np.std(logits_of(bundle) - expected) < 0.05 * np.std(expected)


def test_what_is_quantized_is_not_quantized_again(tmp_path: Path) -> None:
    write_quantized(tmp_path / "checkpoint", "gptq", 32, symmetric=True)
    with pytest.raises(ExportError, match="is quantized already"):
        export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", ExportOptions(quant="a16w8"))
