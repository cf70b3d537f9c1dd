"""From a configuration and a text to a bundle: folding, policies, resuming, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_runner import BundleRunner
from numpy.typing import NDArray
from numpy_llama import all_logits
from pipelines import IDS, dequantized, export, held, make_checkpoint, outlier_tensors, write_token_ids

from mindir_llm.export import ExportError, ExportOptions, export_bundle
from mindir_llm.export.calibrate.settings import CalibrationSettings
from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.pipeline.policies import decide
from mindir_llm.export.pipeline.quantizing import quantize_network
from mindir_llm.export.pipeline.results import QuantizedNetwork
from mindir_llm.export.quantize.config import QuantConfig, from_fields, preset
from mindir_llm.export.quantize.factor import HessianFactor
from mindir_llm.models.config import LlamaConfig
from mindir_llm.tools.backends import BundleFolder
from mindir_llm.tools.reference import ReferenceLlama

PROMPT = 11


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_token_ids(tmp_path_factory.mktemp("text") / "ids.jsonl")


def run_network(
    folder: Path, config: QuantConfig, text: Path, dtype: str = "float32", **changes: Any
) -> tuple[QuantizedNetwork, dict[str, Any]]:
    checkpoint, fields = make_checkpoint(folder / "checkpoint", **changes)
    network = LlamaConfig.from_fields(fields)
    policies = decide(config, network)
    results = quantize_network(
        Checkpoint.open(checkpoint), network, policies, text, folder / "work", dtype=dtype
    )
    return results, fields


def logits_of(bundle: Path) -> NDArray[np.float32]:
    runner = BundleRunner(bundle)
    found = [runner.feed(IDS[:PROMPT])]
    for position in range(PROMPT, len(IDS)):
        found.append(runner.decode([IDS[position]], [position])[0])
    return np.stack(found)


SUPPRESSION = {
    "smooth": {"preset": "a8w8-dynamic", "outliers_suppression": "smooth"},
    "osl": {"preset": "a8w8", "outliers_suppression": "osl"},
    "awq": {"preset": "a16w4", "outliers_suppression": "awq"},
}


@pytest.mark.parametrize("method", SUPPRESSION)
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_folded_factors_leave_the_float_network_as_it_is(
    method: str, kv_heads: int, tmp_path: Path, text: Path
) -> None:
    """Weights times factors, with what makes their inputs divided by the same: not a logit moves."""
    changes = {"num_key_value_heads": kv_heads, "attention_bias": True}
    results, config = run_network(tmp_path, from_fields(SUPPRESSION[method]), text, **changes)
    tensors = outlier_tensors(config)
    scaled = {}
    folds = set()
    for name, values in tensors.items():
        module = name.rpartition(".")[0]
        values = values.astype(np.float64)
        rows, columns = results.row_divisors(module), results.column_factors(module)
        if rows is not None:
            folds.add(module.rpartition(".")[2])
            values = values / (rows if values.ndim == 1 else rows[:, None])
        if columns is not None and values.ndim == 2:
            values = values * columns
        scaled[name] = values
    assert {"input_layernorm", "post_attention_layernorm", "v_proj", "up_proj"} <= folds
    before, after = all_logits(config, tensors, IDS), all_logits(config, scaled, IDS)
    assert max(np.abs(scaled[name] - tensors[name]).max() for name in tensors) > 0.05
    np.testing.assert_allclose(after, before, atol=1e-9)


@pytest.mark.parametrize("method", SUPPRESSION)
def test_integers_are_of_the_scaled_weights(method: str, tmp_path: Path, text: Path) -> None:
    """Quantized weights already have their rows divided by what later layers' inputs are divided by."""
    fields = SUPPRESSION[method] | {"algo_args": {"compensation": 0}}  # these are not close to other weights
    results, config = run_network(tmp_path, from_fields(fields), text)
    tensors = outlier_tensors(config)
    for name in results.names:
        weight = tensors[f"{name}.weight"].astype(np.float64)
        rows, columns = results.row_divisors(name), results.column_factors(name)
        expected = weight / (1 if rows is None else rows[:, None]) * (1 if columns is None else columns)
        quantized, _ = results.linear(name)
        error = np.linalg.norm(quantized.dequantize(np.float64) - expected) / np.linalg.norm(expected)
        assert error < (0.02 if quantized.scheme.bits == 8 else 0.25), name


@pytest.mark.parametrize(
    "fields",
    [
        {"preset": "a16w4", "outliers_suppression": "awq"},
        {"preset": "a16w4", "precision_recovery": "gptq", "algo_args": {"desc_act": True}},
        {"preset": "a16w4", "outliers_suppression": "awq", "precision_recovery": "gptq"},
        {
            "preset": "a16w4",
            "outliers_suppression": "awq",
            "opname_blacklist": ["lm_head", "layers.1.self_attn.v_proj"],
            "layer_policies": {
                r".*\.down_proj": {
                    "weight_quant_dtype": "int8",
                    "weight_quant_granularity": "per_channel",
                    "group_size": 0,
                },
            },
        },
    ],
    ids=["awq", "gptq", "awq-gptq", "policies"],
)
def test_a_bundle_computes_what_it_holds(fields: dict[str, Any], tmp_path: Path, text: Path) -> None:
    """Stock MindSpore against float64 over the stored integers, in networks whose layers differ."""
    checkpoint, config = make_checkpoint(
        tmp_path / "checkpoint", tie_word_embeddings=True, attention_bias=True
    )
    bundle = export(checkpoint, tmp_path / "bundle", from_fields(fields), text, dtype="float32")
    parameters = held(bundle)
    tensors = dequantized(parameters)
    is_tied = "lm_head.weight" not in parameters
    assert is_tied == ("opname_blacklist" in fields)
    expected = all_logits(config | {"tie_word_embeddings": is_tied}, tensors, IDS)[PROMPT - 1 :]
    np.testing.assert_allclose(logits_of(bundle), expected, atol=2e-4)
    # What `verify` compares with reads the bundle too.
    reference = ReferenceLlama(checkpoint, BundleFolder.open(bundle).storage)
    np.testing.assert_allclose(reference.feed_all(IDS)[PROMPT - 1 :], expected, atol=2e-5)


@pytest.mark.parametrize("suppression", ["awq", "osl"])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_smoothed_bundle_stays_close_to_the_checkpoint(
    suppression: str, dtype: str, tmp_path: Path, text: Path
) -> None:
    """With 8 bits little is lost: a factor that is not folded where it should be would cost everything."""
    checkpoint, config = make_checkpoint(tmp_path / "checkpoint", attention_bias=True)
    chosen = from_fields({"preset": "a16w8", "outliers_suppression": suppression})
    bundle = export(checkpoint, tmp_path / "bundle", chosen, text, dtype=dtype)
    original = all_logits(config, outlier_tensors(config), IDS)[PROMPT - 1 :]
    found = all_logits(config, dequantized(held(bundle)), IDS)[PROMPT - 1 :]
    assert 0 < np.std(found - original) < 0.08 * np.std(original)


@pytest.mark.parametrize("target", ["cpu", "ascend"])
@pytest.mark.parametrize(
    "fields",
    [
        {"preset": "a8w8", "outliers_suppression": "smooth"},
        {"preset": "a16w4", "weight_symmetric": False, "precision_recovery": "gptq"},
        {"preset": "a16w8", "weight_quant_granularity": "per_group", "group_size": 32},
    ],
    ids=["a8w8", "zero-points", "int8-groups"],
)
def test_every_form_of_integers_is_stored_as_meant(
    fields: dict[str, Any], target: str, tmp_path: Path, text: Path
) -> None:
    """The float64 reference over what the bundle holds stays close to the checkpoint."""
    checkpoint, config = make_checkpoint(tmp_path / "checkpoint", attention_bias=True)
    needs_text = "preset" in fields and fields["preset"] != "a16w8"
    chosen = from_fields(fields)
    bundle = export(checkpoint, tmp_path / "bundle", chosen, text if needs_text else None, target=target)
    reference = ReferenceLlama(checkpoint, BundleFolder.open(bundle).storage)
    original = all_logits(config, outlier_tensors(config), IDS)
    error = np.std(reference.feed_all(IDS) - original) / np.std(original)
    assert 0 < error < (0.5 if chosen.weight_quant_dtype == "int4" else 0.15)
    if target == "cpu":
        np.testing.assert_allclose(
            logits_of(bundle), reference_logits(reference), atol=0.1 if fields["preset"] == "a8w8" else 5e-3
        )


def reference_logits(reference: ReferenceLlama) -> NDArray[np.float64]:
    reference.reset()
    return reference.feed_all(IDS)[PROMPT - 1 :]


def test_policies_decide_on_each_layer(tmp_path: Path, text: Path) -> None:
    checkpoint, _ = make_checkpoint(tmp_path / "checkpoint")
    fields = {
        "preset": "a16w4",
        "opname_blacklist": ["lm_head"],
        "layer_policies": {
            r".*\.layers\.1\.mlp\.down_proj": {
                "weight_quant_dtype": "int8",
                "weight_quant_granularity": "per_channel",
                "group_size": 0,
            },
            r".*\.k_proj": None,
        },
    }
    bundle = export(checkpoint, tmp_path / "bundle", from_fields(fields), None)
    types = {name: values.dtype for name, values in held(bundle).items()}
    assert types["lm_head.weight"] == types["model.layers.0.self_attn.k_proj.weight"] == np.float16
    assert types["model.layers.1.mlp.down_proj.weight"] == np.int8
    assert types["model.layers.0.mlp.down_proj.weight"] == np.uint8
    entry = json.loads((bundle / "manifest.json").read_text())["quantization"]
    assert entry["scheme"] == "a16w4" and entry["method"] == "rtn"
    layers = entry["layers"]
    assert set(layers) == {
        "lm_head",
        "model.layers.0.self_attn.k_proj",
        "model.layers.1.self_attn.k_proj",
        "model.layers.1.mlp.down_proj",
    }
    assert layers["lm_head"] is None
    assert layers["model.layers.1.mlp.down_proj"]["scheme"] == "a16w8"


def test_gptq_beats_rounding_in_every_layer(tmp_path: Path, text: Path) -> None:
    results, _ = run_network(tmp_path, preset("a16w4", method="gptq"), text)
    errors = results.errors()
    assert [error.linear for error in errors] == list(results.names)
    for error in errors:
        assert 0 < error.output < error.nearest, error
        assert 0 < error.weight < 0.3


def test_layers_of_the_same_inputs_share_a_factor(
    tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    class Counted(HessianFactor):
        def __init__(self, hessian: NDArray[Any], damping: float = 0.01, desc_act: bool = False) -> None:
            made.append((len(hessian), desc_act))
            super().__init__(hessian, damping, desc_act)

    monkeypatch.setattr("mindir_llm.export.pipeline.visitor.HessianFactor", Counted)
    fields = {
        "preset": "a16w4",
        "precision_recovery": "gptq",
        "layer_policies": {r".*\.1\..*\.up_proj": {"algo_args": {"desc_act": True}}},
    }
    _, config = run_network(tmp_path, from_fields(fields), text)
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    layer = [(hidden, False)] * 3 + [(wide, False)]
    assert made == [*layer, *layer[:3], (hidden, True), layer[3], (hidden, False)]


class StoppedError(Exception):
    """The test's power failure."""


@pytest.mark.parametrize("method", ["awq", "gptq"])
def test_an_export_that_was_stopped_continues(method: str, tmp_path: Path, text: Path) -> None:
    checkpoint, _ = make_checkpoint(tmp_path / "checkpoint", num_hidden_layers=3)
    steps: list[tuple[int, str]] = []

    def note(done: int, total: int, what: str) -> None:
        steps.append((done, what))

    def stop(done: int, total: int, what: str) -> None:
        note(done, total, what)
        if what == "layer 2: attention":
            raise StoppedError

    def run(bundle: str, work: str, report: Any) -> dict[str, bytes]:
        options = ExportOptions(
            quant="a16w4", method=method, calibration=text, work_dir=tmp_path / work, max_seq_len=16
        )
        folder = export_bundle(checkpoint, tmp_path / bundle, options, calibration_progress=report)
        files = (path for path in folder.rglob("*") if path.is_file())
        return {str(path.relative_to(folder)): path.read_bytes() for path in files}

    whole = run("whole", "elsewhere", note)
    steps.clear()
    with pytest.raises(StoppedError):
        run("bundle", "work", stop)
    assert not (tmp_path / "bundle").exists()
    steps.clear()
    assert run("bundle", "work", note) == whole
    assert steps[0][1] == "layer 2: attention input", "the first two layers were not run again"
    steps.clear()
    assert run("again", "work", note) == whole
    assert not steps, "nothing is left to do"
    assert not list(tmp_path.glob(".*")), "no temporary folder is left"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"quant": "a16w4", "method": "awq"}, "outliers_suppression awq needs a text"),
        ({"quant": "a16w8", "method": "gptq"}, "precision_recovery gptq needs a text"),
        ({"quant": "a8w8"}, "act_quant_granularity per_tensor needs a text"),
        ({"quant": "a16w4", "method": "smoothquant"}, "smooth eases the rounding of inputs"),
        ({"quant": "a16w4", "method": "best"}, "--method: 'best' is not one of rtn"),
        ({"quant": "a16w5"}, "--quant: 'a16w5' is not one of none"),
        ({"quant": "a16w8", "calibration": "x.txt"}, "nothing needs it"),
        ({"quant": "a16w8", "work_dir": "x"}, "--work-dir: nothing is calibrated without"),
        (
            {"quant": "a16w8", "calibration_settings": CalibrationSettings(samples=4)},
            "--calibration-samples, --calibration-length: nothing is calibrated without",
        ),
        ({"quant": "a16w8", "config": QuantConfig()}, "--quant: a16w8 is for the configuration to say"),
        (
            {"config": QuantConfig(weight_quant_dtype="int8", opname_blacklist=("lm_haed",))},
            "opname_blacklist: 'lm_haed' fits no layer",
        ),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    checkpoint, _ = make_checkpoint(tmp_path / "checkpoint")
    with pytest.raises(ExportError) as caught:
        export_bundle(checkpoint, tmp_path / "bundle", ExportOptions(**options))
    assert message in str(caught.value)
    assert not (tmp_path / "bundle").exists()


def test_layers_of_the_same_inputs_must_agree(tmp_path: Path, text: Path) -> None:
    fields = {
        "preset": "a16w4",
        "outliers_suppression": "awq",
        "layer_policies": {r".*\.k_proj": {"group_size": 64}},
    }
    with pytest.raises(ExportError, match=r"layers\.0\.self_attn\.k_proj.*read the same inputs"):
        run_network(tmp_path, from_fields(fields), text)
