"""Every way of quantizing a linear layer: stock MindSpore, the engine and float64 numpy agree on graphs of
both targets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bundle_runner import BundleRunner
from numpy.typing import NDArray
from numpy_mindir import load_ascend_graph
from scheme_bundle import CHUNK, SchemeBundle
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.models.quantization import WeightQuantization
from mindir_llm.tools.backends import BundleFolder, EngineBackend, MindSporeBackend

pytestmark = pytest.mark.filterwarnings("ignore:.*no tokenizer.model")

IDS = [1, 7, 49, 0, 13, 13, 22, 5, 31, 40, 8, 17, 2, 3]
STEPS = (CHUNK, 3, 1, 1, 1)
# Sizes that no group divides.
SIZES = {"num_hidden_layers": 3, "hidden_size": 72, "intermediate_size": 140, "attention_bias": True}
PARTS = [
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
]  # fmt: skip


Mapping = dict[str, WeightQuantization]


def named(*layers: dict[str, WeightQuantization], head: WeightQuantization | None = None) -> Mapping:
    """By short names of the parts of each layer: "q" … "down"."""
    short = {part.split(".")[1].removesuffix("_proj"): part for part in PARTS}
    result = {
        f"model.layers.{i}.{short[part]}": how
        for i, layer in enumerate(layers)
        for part, how in layer.items()
    }
    return result if head is None else result | {"lm_head": head}


def weights() -> Mapping:
    """All kinds of weights, equal ones side by side (which the engine multiplies together) and different
    ones."""
    int8, int8_zero = WeightQuantization(8), WeightQuantization(8, symmetric=False)
    int8_32, int8_32_zero = WeightQuantization(8, 32), WeightQuantization(8, 32, symmetric=False)
    int4, int4_zero = WeightQuantization(4, 32), WeightQuantization(4, 32, symmetric=False)
    return named(
        {"q": int4_zero, "k": int4_zero, "v": int4, "o": int8_zero, "gate": int8_32_zero, "up": int8_32_zero},
        {"q": int8_zero, "k": int8, "v": int8_zero, "o": WeightQuantization(4, 64, symmetric=False),
         "gate": int8_32, "up": int8_32_zero, "down": WeightQuantization(4, symmetric=False)},
        {"q": WeightQuantization(8, 64), "k": int4, "o": WeightQuantization(4, 128, symmetric=False),
         "gate": int4_zero, "up": int4_zero, "down": WeightQuantization(8, 128, symmetric=False)},
        head=int8_32_zero,
    )  # fmt: skip


def products() -> Mapping:
    """int8 activations of both kinds beside each other and beside float ones."""
    token = WeightQuantization(8, activations="per_token")
    tensor = WeightQuantization(8, activations="per_tensor")
    return named(
        dict.fromkeys(["q", "k", "v", "o", "gate", "up", "down"], tensor),
        {"q": tensor, "k": token, "v": tensor, "o": token, "gate": tensor, "up": WeightQuantization(8)},
        {"q": WeightQuantization(8), "v": tensor, "gate": token, "up": token, "down": tensor},
        head=tensor,
    )


def network(
    quantization: Mapping, dtype: str, folder: Path, symmetric: bool = True
) -> tuple[SchemeBundle, Path]:
    config = tiny_config(**SIZES)
    tensors = random_tensors(config)
    rng = np.random.default_rng(1)
    for name in tensors:
        if name.endswith(".bias"):
            tensors[name] = rng.standard_normal(tensors[name].shape).astype(np.float32)
    checkpoint = write_checkpoint(folder / "checkpoint", config, tensors)
    return SchemeBundle(config, tensors, quantization, dtype, IDS, symmetric), checkpoint


def logits(backend: EngineBackend | MindSporeBackend) -> NDArray[np.floating]:
    return backend.logits(np.array([IDS], np.int32), STEPS)[:, 0]


def wanted(scheme: SchemeBundle) -> NDArray[np.floating]:
    return scheme.expected(IDS)[np.cumsum(STEPS) - 1]


def test_float_activations(tmp_path: Path) -> None:
    scheme, checkpoint = network(weights(), "float32", tmp_path)
    bundle = BundleFolder.open(scheme.write(tmp_path / "cpu", checkpoint, "cpu"))
    expected = wanted(scheme)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(logits(MindSporeBackend(bundle)), expected, atol=1e-4)
    np.testing.assert_allclose(logits(EngineBackend(bundle)), expected, atol=1e-4)
    # Activations rounded to int8, as the engine does by default: a hundredth of the logits' range.
    apart = np.abs(logits(EngineBackend(bundle, exact=False)) - expected)
    assert 0 < apart.mean() < 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("symmetric", [True, False])
def test_int8_activations(symmetric: bool, tmp_path: Path) -> None:
    """Sums that differ in their last bit round some activation the other way, hence the median."""
    scheme, checkpoint = network(products(), "float32", tmp_path, symmetric)
    bundle = BundleFolder.open(scheme.write(tmp_path / "cpu", checkpoint, "cpu"))
    expected = wanted(scheme)
    plain = SchemeBundle(scheme.config, scheme.tensors, {}, scheme.dtype, IDS)
    rounding = np.abs(expected - wanted(plain)).max()
    for backend in (MindSporeBackend(bundle), EngineBackend(bundle)):
        apart = np.abs(logits(backend) - expected)
        assert np.median(apart) < 2e-5
        assert apart.max() < rounding
    assert any(grid.zero for grid in scheme.grids.values()) != symmetric


@pytest.mark.parametrize("how", [weights, products])
def test_both_targets_are_one_plan_in_the_engine(how: Callable[[], Mapping], tmp_path: Path) -> None:
    """Equal to the bit; and the ascend graph, executed in numpy by the vendor's formulas, means the same."""
    scheme, checkpoint = network(how(), "float16", tmp_path, symmetric=False)
    folders = {t: scheme.write(tmp_path / t, checkpoint, t) for t in ("cpu", "ascend")}
    for exact in (True, False):
        cpu, ascend = (logits(EngineBackend(BundleFolder.open(f), exact=exact)) for f in folders.values())
        np.testing.assert_array_equal(cpu, ascend)
    after_prompt = BundleRunner(folders["ascend"], load_ascend_graph).feed(IDS[: CHUNK + 3])
    expected = scheme.expected(IDS)[CHUNK + 2]
    # float16 activations move many of the rounded ones by a step.
    tolerance = 0.06 if scheme.grids else 0.01
    np.testing.assert_allclose(after_prompt, expected, atol=tolerance * np.abs(expected).max())
