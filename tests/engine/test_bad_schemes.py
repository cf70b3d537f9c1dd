"""Damaged bundles whose linear layers are quantized each in another way: errors or results, no crashes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_bad_bundles import FLIPS, check, flips, model_case, run_cases

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))

from scheme_bundle import SchemeBundle
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.models.quantization import WeightQuantization

STATIC = WeightQuantization(8, activations="per_tensor")
PARTS = {
    "self_attn.q_proj": WeightQuantization(4, 32, symmetric=False),
    "self_attn.k_proj": WeightQuantization(8, symmetric=False),
    "self_attn.v_proj": WeightQuantization(8, 32),
    "self_attn.o_proj": WeightQuantization(8, activations="per_token"),
    "mlp.gate_proj": STATIC,
    "mlp.up_proj": STATIC,
    "mlp.down_proj": WeightQuantization(8, 32, symmetric=False),
}


@pytest.fixture(scope="module")
def make_bundle(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    config = tiny_config(num_hidden_layers=1, hidden_size=40, intermediate_size=72, vocab_size=20)
    tensors = random_tensors(config)
    folder = tmp_path_factory.mktemp("bad-schemes")
    checkpoint = write_checkpoint(folder / "checkpoint", config, tensors)
    quantization = {f"model.layers.0.{part}": how for part, how in PARTS.items()}
    scheme = SchemeBundle(config, tensors, quantization, "float16", [1, 2, 3, 4], symmetric_inputs=False)

    def make(target: str) -> Path:
        bundle = folder / target
        return bundle if bundle.exists() else scheme.write(bundle, checkpoint, target)

    return make


@pytest.fixture(scope="module", params=["cpu", "ascend"])
def bundle(request: pytest.FixtureRequest, make_bundle: Callable[[str], Path]) -> Path:
    return make_bundle(request.param)


@pytest.mark.parametrize("graph", ["prefill.mindir", "decode.mindir"])
def test_flipped_graphs_with_a_matching_hash(bundle: Path, graph: str, tmp_path: Path) -> None:
    assert run_cases([model_case(bundle)], tmp_path) == ["ok"]
    file = bundle / graph
    cases = [
        model_case(bundle, file=str(file), flips=edit, resign=True)
        for edit in flips(file.stat().st_size, FLIPS // 2, seed=5)
    ]
    check(cases, tmp_path, refused=False)


def test_numbers_that_make_no_sense(bundle: Path, tmp_path: Path) -> None:
    """Weight files are not hashed when a model is opened. Any byte may hold anything; a zero point that is no
    int8 is named."""
    file = bundle / "weights" / "data_0"
    cases = [model_case(bundle, file=str(file), flips=edit) for edit in flips(file.stat().st_size, 100, 6)]
    check(cases, tmp_path, refused=False)


def test_grids_that_are_none(bundle: Path, tmp_path: Path) -> None:
    """A graph whose grid makes no sense runs as it is written, or says why not."""
    file = bundle / "weights" / "data_0"
    data = file.read_bytes()
    target = json.loads((bundle / "manifest.json").read_text())["target"]
    stored = np.float32 if target == "cpu" else np.float16
    cases = []
    for name in ("input_scale", "input_zero"):
        place = bundle_place(bundle, f"model.layers.0.mlp.up_proj.{name}")
        for number in (0.0, -1.0, 0.5, 300.0, np.nan, np.inf, -np.inf, 6e4):
            wanted = np.array([number], stored).tobytes()
            edit = [[place + i, data[place + i] ^ byte] for i, byte in enumerate(wanted)]
            cases.append(model_case(bundle, name=f"{name} {number}", file=str(file), flips=edit))
    check(cases, tmp_path, refused=False)


def test_zero_points_that_are_no_integers(make_bundle: Callable[[str], Path], tmp_path: Path) -> None:
    """Those of ascend graphs are floats."""
    bundle = make_bundle("ascend")
    file = bundle / "weights" / "data_0"
    data = file.read_bytes()
    cases = []
    for part in ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj"):
        place = bundle_place(bundle, f"model.layers.0.{part}.weight_zero")
        for number in (0.5, 129.0, -128.5, np.nan, np.inf):
            wanted = np.array([number], np.float16).tobytes()
            edit = [[place + i, data[place + i] ^ byte] for i, byte in enumerate(wanted)]
            cases.append(model_case(bundle, name=f"{part} {number}", file=str(file), flips=edit))
    results = run_cases(cases, tmp_path)
    for case, result in zip(cases, results, strict=True):
        assert result.startswith("error BundleError") and "zero point" in result, (case["name"], result)


def bundle_place(bundle: Path, name: str) -> int:
    """Where a parameter begins in weights/data_0."""
    from mindspore.train.mind_ir_pb2 import ModelProto

    model = ModelProto()
    model.ParseFromString((bundle / "decode.mindir").read_bytes())
    return next(int(p.external_data.offset) for p in model.graph.parameter if p.name == name)
