"""Exported graphs compute what the checkpoint means: stock MindSpore against a float64 forward pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runner import BundleRunner
from numpy_llama import all_logits
from numpy_mindir import load_ascend_graph
from tiny_checkpoint import Tensors, kv_scales, random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportOptions, export_bundle
from mindir_llm.export.quantize.rtn import (
    dequantize_groups,
    dequantize_rows,
    quantize_groups,
    quantize_rows,
)

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # So short that all three bands of frequencies occur within head_dim 8.
    "original_max_position_embeddings": 64,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "tied": {"tie_word_embeddings": True},
    "bias": {"attention_bias": True},
    "llama3-rope": {"rope_theta": 500.0, "rope_scaling": LLAMA3},
    "head-dim": {"head_dim": 12, "num_key_value_heads": 4},
    "mistral-one-kv-head": {"model_type": "mistral", "sliding_window": None, "num_key_value_heads": 1},
}
IDS = [1, 7, 49, 0, 13, 13, 22, 5, 31, 40, 8, 17, 2, 3]
PROMPT = 11


def stored(tensors: Tensors, config: dict[str, Any], dtype: str, quant: str, group_size: int = 32) -> Tensors:
    """The checkpoint as a bundle stores it: rounded to dtype, linear weights quantized."""
    if config["tie_word_embeddings"]:
        tensors = tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"]}
    result = {}
    for name, values in tensors.items():
        is_linear = values.ndim == 2 and "embed" not in name
        if is_linear and quant == "a8w8-dynamic":
            result[name] = dequantize_rows(*quantize_rows(values, "float32"))
        elif is_linear and quant == "a16w8":
            result[name] = dequantize_rows(*quantize_rows(values, dtype))
        elif is_linear and quant == "a16w4":
            integers, scale = quantize_groups(values, group_size, dtype)
            result[name] = dequantize_groups(integers, group_size, scale)
        else:
            result[name] = values.astype(dtype)
    return result


def run_all(runner: BundleRunner) -> list[np.ndarray[Any, Any]]:
    """Logits after the prompt, then after each further token."""
    logits = [runner.feed(IDS[:PROMPT])]
    for position in range(PROMPT, len(IDS)):
        logits.append(runner.decode([IDS[position]], [position])[0])
    return logits


def expected_logits(config: dict[str, Any], tensors: Tensors) -> np.ndarray[Any, Any]:
    return all_logits(config, tensors, IDS)[PROMPT - 1 :]


@pytest.mark.parametrize("variant", VARIANTS)
def test_float32_equals_the_checkpoint(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config(**VARIANTS[variant])
    tensors = random_tensors(config)
    write_checkpoint(tmp_path / "checkpoint", config, tensors, shards=2)
    options = ExportOptions(dtype="float32", max_seq_len=16, prefill_chunk=4)
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    expected = expected_logits(config, tensors)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(run_all(BundleRunner(tmp_path / "bundle")), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("dtype", "quant", "group_size", "tied"),
    [
        ("float16", "none", None, True),
        ("float16", "a16w8", None, True),
        ("float32", "a16w8", None, False),
        ("float16", "a16w4", 32, True),
        ("float32", "a16w4", 64, False),
        ("float16", "a16w4", 0, False),
    ],
)
def test_stored_precision_is_the_only_rounding(
    dtype: str, quant: str, group_size: int | None, tied: bool, tmp_path: Path
) -> None:
    """With float32 caches the cpu graphs differ from float64 over the stored weights by float32 rounding
    only."""
    config = tiny_config(tie_word_embeddings=tied, attention_bias=True)
    tensors = random_tensors(config)
    write_checkpoint(tmp_path / "checkpoint", config, tensors)
    options = ExportOptions(
        quant=quant, group_size=group_size, dtype=dtype, kv_dtype="float32", max_seq_len=16, prefill_chunk=4
    )
    export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options)
    weights = stored(tensors, config, dtype, quant, group_size or 0)
    # The quantized lm_head is a matrix of its own, even where the checkpoint ties it.
    expected = expected_logits(config | {"tie_word_embeddings": False}, weights)
    np.testing.assert_allclose(run_all(BundleRunner(tmp_path / "bundle")), expected, atol=1e-4)


@pytest.mark.parametrize(("quant", "tied"), [("none", True), ("a16w8", False), ("a16w4", False)])
def test_float16_caches_and_the_ascend_graphs(quant: str, tied: bool, tmp_path: Path) -> None:
    """float16 caches (cpu) and float16 activations (ascend) stay within float16 rounding of float64.

    The ascend graphs round each of some 30 intermediate results of a layer to 11 bits; 0.03 is about 12 units
    in the last place of logits of size 4, and a wrong graph is off by more than 1.
    """
    config = tiny_config(tie_word_embeddings=tied, attention_bias=not tied)
    tensors = random_tensors(config)
    write_checkpoint(tmp_path / "checkpoint", config, tensors)
    weights = stored(tensors, config, "float16", quant)
    expected = expected_logits(config | {"tie_word_embeddings": False}, weights)
    for target, bound in (("cpu", 0.005), ("ascend", 0.03)):
        options = ExportOptions(quant=quant, target=target, max_seq_len=16, prefill_chunk=4)
        bundle = export_bundle(tmp_path / "checkpoint", tmp_path / target, options)
        runner = BundleRunner(bundle) if target == "cpu" else BundleRunner(bundle, load_ascend_graph)
        np.testing.assert_allclose(run_all(runner), expected, atol=bound, err_msg=target)


@pytest.mark.parametrize("target", ["cpu", "ascend"])
def test_int8_activations(target: str, tmp_path: Path) -> None:
    """float32 leaves few values so close to the middle of two integers that another order of additions
    rounds them the other way: most logits are equal. float16 activations move many by one step, which is then
    as large as all rounding."""
    config = tiny_config(attention_bias=True)
    tensors = random_tensors(config)
    write_checkpoint(tmp_path / "checkpoint", config, tensors)
    dtype = "float32" if target == "cpu" else "float16"
    weights = stored(tensors, config, dtype, "a8w8-dynamic")
    expected = all_logits(config, weights, IDS, int8_rows=True)[PROMPT - 1 :]
    rounding = np.abs(expected_logits(config, weights) - expected)
    options = ExportOptions(quant="a8w8-dynamic", dtype=dtype, target=target, max_seq_len=16, prefill_chunk=4)
    bundle = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options)
    runner = BundleRunner(bundle) if target == "cpu" else BundleRunner(bundle, load_ascend_graph)
    apart = np.abs(run_all(runner) - expected)
    if target == "cpu":
        assert np.median(apart) < 1e-5
    assert apart.max() < 2 * rounding.max()


@pytest.mark.parametrize("target", ["cpu", "ascend"])
@pytest.mark.parametrize("granularity", ["per_channel", "per_token"])
def test_int8_caches(target: str, granularity: str, tmp_path: Path) -> None:
    """Rounding after the same float32 arithmetic is the same rounding, but for values beside the middle of
    two integers: most logits are equal, the others a step apart. With float16 activations many are. Scales
    are small enough that some channels saturate."""
    config = tiny_config(attention_bias=True)
    tensors = random_tensors(config)
    write_checkpoint(tmp_path / "checkpoint", config, tensors)
    dtype = "float32" if target == "cpu" else "float16"
    weights = stored(tensors, config, dtype, "none")
    scales = kv_scales(config) if granularity == "per_channel" else {}
    expected = all_logits(config, weights | scales, IDS, int8_caches=granularity)[PROMPT - 1 :]
    rounding = np.abs(expected_logits(config, weights) - expected)
    options = ExportOptions(
        dtype=dtype,
        target=target,
        kv_dtype="int8",
        kv_granularity=granularity,
        max_seq_len=16,
        prefill_chunk=4,
    )
    bundle = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options, kv_scales=scales)
    runner = BundleRunner(bundle) if target == "cpu" else BundleRunner(bundle, load_ascend_graph)
    apart = np.abs(run_all(runner) - expected)
    if target == "cpu":
        assert np.median(apart) < 1e-5
    assert apart.max() < 2 * rounding.max()


@pytest.mark.parametrize("target", ["cpu", "ascend"])
def test_sequences_of_a_batch_do_not_mix(target: str, tmp_path: Path) -> None:
    """Three sequences at positions of their own, one of them with a short last chunk."""
    config = tiny_config()
    tensors = random_tensors(config)
    write_checkpoint(tmp_path / "checkpoint", config, tensors)
    dtype = "float32" if target == "cpu" else "float16"
    options = ExportOptions(target=target, dtype=dtype, max_seq_len=12, prefill_chunk=4, batch=3)
    bundle = export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options)
    runner = BundleRunner(bundle) if target == "cpu" else BundleRunner(bundle, load_ascend_graph)
    sequences = [IDS[:7], IDS[3:8], IDS[6:14]]
    runner.prefill([s[:4] for s in sequences], [0, 0, 0])
    logits = runner.prefill([s[4:] for s in sequences], [4, 4, 4], padding=9)
    after = [*[[*s] for s in sequences]]
    for row, sequence in enumerate(after):
        want = all_logits(config, tensors, sequence)[-1]
        np.testing.assert_allclose(logits[row], want, atol=1e-4 if target == "cpu" else 0.03)
    logits = runner.decode([11, 12, 13], [len(s) for s in after])
    for row, sequence in enumerate(after):
        want = all_logits(config, tensors, [*sequence, 11 + row])[-1]
        np.testing.assert_allclose(logits[row], want, atol=1e-4 if target == "cpu" else 0.03)


@pytest.mark.parametrize("chunk", [1, 16])
def test_the_last_row_of_the_cache_is_usable(chunk: int, tmp_path: Path) -> None:
    """A sequence as long as the cache, whose last chunk is padded past the cache's end when chunk is 16 of
    24."""
    config = tiny_config()
    tensors = random_tensors(config)
    write_checkpoint(tmp_path / "checkpoint", config, tensors)
    options = ExportOptions(dtype="float32", max_seq_len=24, prefill_chunk=chunk)
    runner = BundleRunner(export_bundle(tmp_path / "checkpoint", tmp_path / "bundle", options))
    ids = (IDS * 2)[:24]
    expected = all_logits(config, tensors, ids)
    np.testing.assert_allclose(runner.feed(ids), expected[-1], atol=1e-4)
    runner.reset()
    runner.feed(ids[:23])
    np.testing.assert_allclose(runner.decode(ids[23:], [23])[0], expected[-1], atol=1e-4)


def test_stories260k_in_stock_mindspore(shared_data: Path, tmp_path: Path) -> None:
    """A trained model, exported in float32, continues as the original program does."""
    checkpoint = shared_data / "models" / "stories260K" / "hf"
    golden = json.loads((checkpoint / "golden_numpy.json").read_text())
    options = ExportOptions(dtype="float32", prefill_chunk=64)
    runner = BundleRunner(export_bundle(checkpoint, tmp_path / "bundle", options))
    ids = list(golden["prompt_ids"])
    for position in range(199):
        logits = runner.decode([ids[-1]], [position])[0]
        if position == 0:
            np.testing.assert_allclose(logits, golden["logits_step0"], atol=1e-4)
        ids.append(int(logits.argmax()))
    assert ids == golden["greedy_ids"]
    runner.reset()
    assert int(runner.feed(ids[:150]).argmax()) == ids[150]
