"""The calibration network against the independent float64 reference, and its statistics against plain
formulas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.export.calibrate import CalibrationSettings, Site, calibrate
from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantize.rtn import dequantize_rows, quantize_rows
from mindir_llm.tools.reference import ReferenceLlama, Storage

ALL_ROWS = 1 << 30
DEMO = Path(__file__).resolve().parents[3] / "tools" / "demo_model" / "checkpoint"


class Recorder:
    """A visitor that keeps all sites."""

    key = "recorder"

    def __init__(self) -> None:
        self.sites: list[Site] = []

    def visit(self, site: Site) -> Mapping[str, NDArray[Any]] | None:
        self.sites.append(site)
        return None

    def save(self, layer: int) -> Mapping[str, NDArray[Any]]:
        return {}

    def restore(self, layer: int, saved: Mapping[str, NDArray[Any]]) -> None:
        pass


def random_sequences(vocab: int, lengths: tuple[int, ...] = (17, 2, 30, 1)) -> list[NDArray[np.int32]]:
    rng = np.random.default_rng(3)
    return [rng.integers(0, vocab, length, dtype=np.int32) for length in lengths]


def reference_inputs(model: ReferenceLlama, sequences: list[NDArray[np.int32]]) -> dict[str, NDArray[Any]]:
    """Inputs of every linear layer of the reference, [tokens, in], and its cache rows, by name."""
    seen: dict[str, list[NDArray[Any]]] = {}
    linear = model._linear

    def record(x: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        seen.setdefault(name, []).append(x)
        return linear(x, name)

    model._linear = record  # type: ignore[method-assign]
    for ids in sequences:
        model.reset()
        seen.setdefault("lm_head", []).append(model._norm(model._hidden(ids), "model.norm"))
        for kind, caches in (("keys", model.keys), ("values", model.values)):
            for layer, cache in enumerate(caches):
                rows = cache.transpose(1, 0, 2).reshape(len(ids), -1)
                seen.setdefault(f"{kind}.{layer}", []).append(rows)
    return {name: np.concatenate(rows) for name, rows in seen.items()}


def compare(checkpoint: Path, sequences: list[NDArray[np.int32]], dtype: str, tolerance: float) -> None:
    recorder = Recorder()
    settings = CalibrationSettings(second_moment=True, sample_rows=ALL_ROWS)
    found = calibrate(checkpoint, sequences, settings, recorder, dtype=dtype)
    model = ReferenceLlama(checkpoint)
    expected = reference_inputs(model, sequences)
    assert {*found.inputs} == {name for name in expected if "." not in name or name.startswith("model")}
    assert found.tokens == sum(map(len, sequences))

    def close(actual: NDArray[Any], wanted: NDArray[Any]) -> None:
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=tolerance * max(1, np.abs(wanted).max()))

    def check(statistics: Any, x: NDArray[np.float64]) -> None:
        assert statistics.rows == len(x)
        close(statistics.max_abs, np.abs(x).max(axis=0))
        close(statistics.channel_min, x.min(axis=0))
        close(statistics.channel_max, x.max(axis=0))
        close(statistics.mean_abs, np.abs(x).mean(axis=0))
        close(statistics.mean_square, (x**2).mean(axis=0))
        assert statistics.minimum == pytest.approx(x.min(), abs=tolerance * max(1, np.abs(x).max()))
        assert statistics.maximum == pytest.approx(x.max(), abs=tolerance * max(1, np.abs(x).max()))

    for name, statistics in found.inputs.items():
        check(statistics, expected[name])
        close(statistics.sample, expected[name])
        assert statistics.second_moment is None
    for layer, (keys, values) in enumerate(zip(found.keys, found.values, strict=True)):
        check(keys, expected[f"keys.{layer}"])
        check(values, expected[f"values.{layer}"])
    visited = []
    for site in recorder.sites:
        for name, weight in site.linears.items():
            visited.append(name)
            tensor = name if name != "lm_head" else model._head.removesuffix(".weight")
            np.testing.assert_array_equal(weight, model._weight(f"{tensor}.weight"))
            assert site.layer == (int(name.split(".")[2]) if name != "lm_head" else model.layers)
            close(
                site.statistics.second_moment / len(expected[name]),
                expected[name].T @ expected[name] / len(expected[name]),
            )
    assert visited == [
        *(
            f"model.layers.{layer}.{part}"
            for layer in range(model.layers)
            for part in (
                *("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
                *("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
            )
        ),
        "lm_head",
    ]
    logits = found.inputs["lm_head"].sample @ recorder.sites[-1].linears["lm_head"].T
    start = 0
    for ids in sequences:
        model.reset()
        close(logits[start : start + len(ids)], model.feed_all(ids))
        start += len(ids)


LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"attention_bias": True, "head_dim": 12},
        {"tie_word_embeddings": True, "num_key_value_heads": 4},
        {"rope_scaling": LLAMA3, "head_dim": 16, "num_key_value_heads": 1},
    ],
    ids=["plain", "bias", "tied", "llama3"],
)
def test_float64_equals_the_reference(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = tiny_config(**changes)
    tensors = random_tensors(config)
    for name, value in tensors.items():
        if name.endswith(".bias"):
            tensors[name] = np.random.default_rng(1).standard_normal(value.shape).astype(np.float32)
    checkpoint = write_checkpoint(tmp_path / "c", config, tensors, shards=2)
    compare(checkpoint, random_sequences(config["vocab_size"]), "float64", 1e-12)
    compare(checkpoint, random_sequences(config["vocab_size"]), "float32", 2e-6)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 5e-6)])
def test_demo_model_equals_the_reference(dtype: str, tolerance: float) -> None:
    compare(DEMO, random_sequences(1024, (150, 33)), dtype, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 5e-6)])
def test_stories260k_equals_the_reference(shared_data: Path, dtype: str, tolerance: float) -> None:
    checkpoint = shared_data / "models" / "stories260K" / "hf"
    compare(checkpoint, random_sequences(512, (60, 33)), dtype, tolerance)


def test_samples_that_are_not_kept(tmp_path: Path) -> None:
    """Only a visitor sees them; all else stays."""
    checkpoint = write_checkpoint(tmp_path / "c", tiny_config(), random_tensors(tiny_config()))
    kept, seen = Recorder(), Recorder()
    settings = CalibrationSettings(sample_rows=5)
    whole = calibrate(checkpoint, random_sequences(50), settings, kept)
    found = calibrate(checkpoint, random_sequences(50), replace(settings, keep_samples=False), seen)
    for name, statistics in found.inputs.items():
        assert statistics.sample is None
        for key, value in statistics.arrays().items():
            np.testing.assert_array_equal(value, whole.inputs[name].arrays()[key])
    for ours, theirs in zip(seen.sites, kept.sites, strict=True):
        np.testing.assert_array_equal(ours.statistics.sample, theirs.statistics.sample)


def test_rows_in_a_file_give_the_same(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "c", tiny_config(), random_tensors(tiny_config()))
    sequences = random_sequences(50)
    settings = CalibrationSettings(sample_rows=5, seed=1)
    a = calibrate(checkpoint, sequences, settings)
    b = calibrate(checkpoint, sequences, settings, memory_limit=0)
    for name, statistics in a.inputs.items():
        assert len(statistics.sample) == 5  # type: ignore[arg-type]
        for key, value in statistics.arrays().items():
            np.testing.assert_array_equal(value, b.inputs[name].arrays()[key])


class Replacer(Recorder):
    """Rounds every weight, as a quantizer would."""

    key = "replacer"

    def visit(self, site: Site) -> Mapping[str, NDArray[Any]]:
        super().visit(site)
        return {name: np.round(weight * 8) / 8 for name, weight in site.linears.items()}


def test_replaced_weights_reach_later_layers(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    checkpoint = write_checkpoint(tmp_path / "float", config, tensors)
    rounded = {
        name: np.round(value * 8) / 8 if value.ndim == 2 and "embed" not in name else value
        for name, value in tensors.items()
    }
    replaced = write_checkpoint(tmp_path / "rounded", config, rounded)
    sequences = random_sequences(config["vocab_size"])
    visitor = Replacer()
    found = calibrate(checkpoint, sequences, visitor=visitor)
    expected = calibrate(replaced, sequences)
    for name, statistics in expected.inputs.items():
        np.testing.assert_array_equal(found.inputs[name].mean_abs, statistics.mean_abs)
    for site in visitor.sites:  # it sees the original weights, not its own
        for name, weight in site.linears.items():
            np.testing.assert_array_equal(weight, tensors[f"{name}.weight"])


class Int8(Recorder):
    """Quantizes every weight, as the exporter does."""

    key = "int8"

    def visit(self, site: Site) -> Mapping[str, NDArray[Any]]:
        super().visit(site)
        return {
            name: dequantize_rows(*quantize_rows(weight.astype(np.float32), "float32"))
            for name, weight in site.linears.items()
        }


def test_errors_of_quantized_weights_propagate_as_in_the_reference() -> None:
    sequences = random_sequences(1024, (40, 9))
    settings = CalibrationSettings(sample_rows=ALL_ROWS, drift=True)
    visitor = Int8()
    found = calibrate(DEMO, sequences, settings, visitor, dtype="float64")
    rounded = reference_inputs(ReferenceLlama(DEMO, Storage("float32", weight_bits=8)), sequences)
    exact = reference_inputs(ReferenceLlama(DEMO), sequences)
    for name, statistics in found.inputs.items():
        assert statistics.sample is not None
        np.testing.assert_allclose(statistics.sample, rounded[name], atol=1e-4 * np.abs(rounded[name]).max())
        if not name.startswith("model.layers.0.self_attn.") or name.endswith("o_proj"):
            assert np.abs(statistics.sample - exact[name]).max() > 1e-3 * np.abs(exact[name]).max()
    for site in visitor.sites:
        name = next(iter(site.linears))
        drift = rounded[name].T @ (exact[name] - rounded[name])
        error = np.abs(site.statistics.drift - drift).max()
        assert error <= 1e-2 * np.abs(drift).max() if np.any(drift) else error < 1e-9


def test_wrong_inputs_are_named(tmp_path: Path) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    checkpoint = write_checkpoint(tmp_path / "a", config, tensors)
    with pytest.raises(ExportError, match="at least one sequence"):
        calibrate(checkpoint, [])
    with pytest.raises(ExportError, match=r"from 3 to 50, but .* vocabulary of 50"):
        calibrate(checkpoint, [np.array([3, 50])])
    name = "model.layers.1.mlp.up_proj.weight"
    for case, change, message in (
        ("b", {name: np.zeros((2, 2), np.float32)}, "has shape"),
        ("c", {"model.norm.weight": np.full(32, 3e38, np.float32)}, "lm_head has values that are not finite"),
    ):
        broken = write_checkpoint(tmp_path / case, config, {**tensors, **change})
        with pytest.raises(ExportError, match=message), np.errstate(all="ignore"):
            calibrate(broken, random_sequences(50))
    del tensors[name]
    with pytest.raises(ExportError, match=f"missing tensors: {name}"):
        calibrate(write_checkpoint(tmp_path / "d", config, tensors), random_sequences(50))


def test_progress_counts_every_pass(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path, tiny_config(), random_tensors(tiny_config()))
    calls: list[tuple[int, int, str]] = []
    calibrate(checkpoint, random_sequences(50), progress=lambda *call: calls.append(call))
    assert [done for done, _, _ in calls] == list(range(1, calls[-1][1] + 1))
    assert calls[-1][0] == calls[-1][1] == 4 * (2 * 5 + 1)
    assert calls[0][2] == "layer 0: attention input" and calls[-1][2] == "output layer"
