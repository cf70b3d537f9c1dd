"""Calibrated exports of every scheme, from checkpoint and text to logits: stock MindSpore agrees with the
engine, and the engine runs both targets to the same bits."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportOptions, export_bundle
from mindir_llm.export.calibrate import CalibrationSettings
from mindir_llm.export.quantize.config import from_fields
from mindir_llm.tools.backends import BundleFolder, EngineBackend, MindSporeBackend
from mindir_llm.tools.demo_model.grammar import stories
from mindir_llm.tools.reference import ReferenceLlama

pytestmark = pytest.mark.filterwarnings("ignore:.*no tokenizer.model")

CHUNK, ROWS = 8, 32
STEPS = (CHUNK, CHUNK, 3, 1, 1, 1)
# Widths that no group divides, a tied output layer, biases, two query heads to a cache's.
TINY = {"hidden_size": 72, "intermediate_size": 140, "attention_bias": True, "tie_word_embeddings": True}
DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo_model" / "checkpoint"

INT4 = {"preset": "a16w4"}
WIDE = {"weight_quant_granularity": "per_channel", "group_size": 0}
ZERO = {"weight_symmetric": False}
AWQ, GPTQ = {"outliers_suppression": "awq"}, {"precision_recovery": "gptq"}
OSL, SMOOTH = {"outliers_suppression": "osl"}, {"outliers_suppression": "smooth"}
TOKEN, CHANNEL = ({"kv_dtype": "int8", "kv_granularity": how} for how in ("per_token", "per_channel"))

# Name -> fields of a configuration, and how caches are kept.
SCHEMES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a16w8-gptq": ({"preset": "a16w8", **GPTQ}, {}),
    "a16w8-g64-zero-awq": (
        {"preset": "a16w8", "weight_quant_granularity": "per_group", "group_size": 64, **ZERO, **AWQ},
        {},
    ),
    "a16w4-g32-awq": ({**INT4, **AWQ}, CHANNEL),
    "a16w4-g32-zero-awq-gptq": ({**INT4, **ZERO, **AWQ, **GPTQ}, TOKEN),
    "a16w4-g64-gptq": ({**INT4, "group_size": 64, **GPTQ, "algo_args": {"desc_act": True}}, {}),
    "a16w4-g64-zero-osl": ({**INT4, "group_size": 64, **ZERO, **OSL}, {}),
    "a16w4-g128-gptq": ({**INT4, "group_size": 128, **GPTQ}, {}),
    "a16w4-g128-zero-awq": ({**INT4, "group_size": 128, **ZERO, **AWQ}, {}),
    "a16w4-channel-gptq": ({**INT4, **WIDE, **GPTQ}, {}),
    "a16w4-channel-zero-gptq": ({**INT4, **WIDE, **ZERO, **GPTQ}, {}),
    "a8w8-dynamic-smooth": ({"preset": "a8w8-dynamic", **SMOOTH}, TOKEN),
    "a8w8-osl": ({"preset": "a8w8", **OSL}, CHANNEL),
    "a8w8-smooth-gptq": ({"preset": "a8w8", **SMOOTH, **GPTQ}, {}),
}


@dataclass(frozen=True)
class Network:
    """What is exported: a checkpoint, a text to calibrate with, and ids to run [1, n]."""

    checkpoint: Path
    text: Path
    ids: NDArray[np.int32]

    def export(self, folder: Path, scheme: str, target: str) -> BundleFolder:
        """Both targets are of one calibration, which they find in folder."""
        fields, caches = SCHEMES[scheme]
        bundle = export_bundle(
            self.checkpoint,
            folder / target,
            ExportOptions(
                calibration=self.text,
                calibration_settings=CalibrationSettings(samples=24, length=64),
                work_dir=folder / "work",
                target=target,
                max_seq_len=ROWS,
                prefill_chunk=CHUNK,
                config=from_fields(fields),
                **caches,  # type: ignore[arg-type]
            ),
        )
        return BundleFolder.open(bundle)

    def float_logits(self) -> NDArray[np.floating]:
        """Of the checkpoint as it is, [steps, vocabulary]."""
        return ReferenceLlama(self.checkpoint).feed_all(self.ids[0], rows=np.cumsum(STEPS) - 1)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("tiny")
    config = tiny_config(**TINY)
    tensors = random_tensors(config)
    rng = np.random.default_rng(1)
    for name, values in tensors.items():
        if name.endswith(".bias"):
            tensors[name] = rng.standard_normal(values.shape).astype(np.float32)
        elif "layernorm" in name:
            # Some inputs larger than others, for methods to smooth.
            values[rng.choice(len(values), 3, replace=False)] *= 8
    text = folder / "ids.jsonl"
    lines = [{"token_ids": rng.integers(0, 50, 24).tolist()} for _ in range(24)]
    text.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ids = rng.integers(0, 50, (1, sum(STEPS)), dtype=np.int32)
    return Network(write_checkpoint(folder / "checkpoint", config, tensors), text, ids)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Network:
    from mindir_llm.tokenizer import load_tokenizer

    text = tmp_path_factory.mktemp("demo") / "stories.txt"
    text.write_text("\n<|endoftext|>\n".join(stories(20_000_000, 24)))
    ids = load_tokenizer(DEMO).encode(next(stories(10_000_000, 1)))[: sum(STEPS)]
    return Network(DEMO, text, np.array([ids], np.int32))


def logits(backend: EngineBackend | MindSporeBackend, network: Network) -> NDArray[np.floating]:
    return backend.logits(network.ids, STEPS)[:, 0]


def check(network: Network, scheme: str, folder: Path) -> None:
    cpu, ascend = (network.export(folder, scheme, target) for target in ("cpu", "ascend"))
    engine = logits(EngineBackend(cpu), network)
    for exact in (True, False):
        np.testing.assert_array_equal(
            logits(EngineBackend(cpu, exact=exact), network),
            logits(EngineBackend(ascend, exact=exact), network),
        )
    # float16 caches round a number beside the middle either way, and so do int8 caches and activations, whose
    # steps are larger (one key that is rounded otherwise moves all later logits a little); a wrong scale or
    # zero point would cost as much as quantization itself.
    apart = np.abs(logits(MindSporeBackend(cpu), network) - engine)
    lost = np.abs(network.float_logits() - engine)
    assert lost.mean() > 0.01
    has_int8_cache = bool(SCHEMES[scheme][1])
    assert np.median(apart) < (0.02 * np.median(lost) if has_int8_cache else 2e-4)
    assert apart.max() < lost.max() * (0.5 if cpu.rounds_activations else 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tiny_network(scheme: str, tiny: Network, tmp_path: Path) -> None:
    check(tiny, scheme, tmp_path)


@pytest.mark.parametrize("scheme", ["a16w8-gptq", "a16w4-g32-awq", "a8w8-dynamic-smooth", "a8w8-osl"])
def test_demo_model(scheme: str, demo: Network, tmp_path: Path) -> None:
    check(demo, scheme, tmp_path)
