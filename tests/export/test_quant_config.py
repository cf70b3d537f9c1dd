"""Quantization configurations: every field checked, policies resolved by name."""

from __future__ import annotations

import dataclasses
import enum
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantize.config import (
    METHODS,
    PRESETS,
    AlgorithmArgs,
    LayerPolicy,
    QuantConfig,
    QuantConfigError,
    from_fields,
    from_yaml,
    preset,
)

NAMES = [
    *(
        f"model.layers.{layer}.{part}"
        for layer in range(12)
        for part in ("self_attn.q_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.down_proj")
    ),
    "lm_head",
]
DOWN = "model.layers.3.mlp.down_proj"


def policy(config: QuantConfig, name: str = DOWN) -> LayerPolicy:
    found = config.policy_for(name)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("name", "bits", "group_size", "act"),
    [
        ("a16w8", 8, 0, None),
        ("a16w4", 4, 32, None),
        ("a16w4-g32", 4, 32, None),
        ("a16w4-g64", 4, 64, None),
        ("a16w4-g128", 4, 128, None),
        ("a8w8", 8, 0, "static"),
        ("a8w8-dynamic", 8, 0, "dynamic"),
    ],
)
def test_presets(name: str, bits: int, group_size: int, act: str | None) -> None:
    config = preset(name)
    assert config == PRESETS[name] and config.kvcache_quant_dtype is None
    for layer in NAMES:
        assert policy(config, layer) == LayerPolicy(bits, group_size, True, act, None, None, AlgorithmArgs())
    assert policy(config).needs_calibration == (act == "static")


def test_none_quantizes_nothing() -> None:
    assert preset("none").policy_for(DOWN) is None
    assert preset("none", kv_dtype="float16") == QuantConfig()
    assert preset("none", kv_dtype="int8").kvcache_quant_dtype == "int8"


def test_flags_change_presets() -> None:
    config = preset("a16w4", method="gptq", kv_dtype="int8", kv_granularity="per_token", group_size=0)
    assert policy(config).precision_recovery == "gptq" and policy(config).needs_second_moment
    assert policy(config).needs_calibration and policy(config).group_size == 0
    assert (config.kvcache_quant_dtype, config.kvcache_quant_granularity) == ("int8", "per_token")
    assert policy(preset("a16w8", method="awq")).outliers_suppression == "awq"
    assert policy(preset("a8w8", method="smoothquant")).outliers_suppression == "smooth"
    assert policy(preset("a8w8", method="osl")).outliers_suppression == "outlier_suppression_lite"
    assert preset("a8w8", method="rtn") == preset("a8w8")
    assert set(METHODS) == {"rtn", "smoothquant", "osl", "awq", "gptq"}


def test_what_calibration_is_needed_for() -> None:
    assert not preset("a16w4").needs_calibration(NAMES)
    assert not preset("a8w8-dynamic").needs_calibration(NAMES)
    for config in (preset("a8w8"), preset("a8w8", method="osl"), preset("none", kv_dtype="int8")):
        assert config.needs_calibration(NAMES) and not config.needs_second_moment(NAMES)
    kv = preset("none", kv_dtype="int8", kv_granularity="per_token")
    assert not kv.needs_calibration(NAMES) and kv.kv_cache == "dynamic"
    assert preset("none", kv_dtype="int8").kv_cache == "static" and preset("none").kv_cache is None
    for method in ("awq", "gptq"):
        config = preset("a16w4", method=method)
        assert config.needs_calibration(NAMES) and config.needs_second_moment(NAMES)
        assert not config.needs_second_moment([])


def test_golden_stick_spellings() -> None:
    class Suppression(enum.Enum):
        LITE = "outlier-suppression-lite"

    config = QuantConfig(
        weight_quant_dtype="qint4x2",
        weight_quant_granularity="PER_GROUP",
        group_size=64,
        outliers_suppression=Suppression.LITE,  # type: ignore[arg-type]
        precision_recovery="none",
    )
    assert config.weight_quant_dtype == "int4" and config.weight_quant_granularity == "per_group"
    assert config.outliers_suppression == "outlier_suppression_lite" and config.precision_recovery is None


def test_mindspore_types_are_taken() -> None:
    mindspore = pytest.importorskip("mindspore")
    assert QuantConfig(weight_quant_dtype=mindspore.int8).weight_quant_dtype == "int8"
    assert QuantConfig(weight_quant_dtype=mindspore.qint4x2).weight_quant_dtype == "int4"


def test_blacklist_goes_by_whole_parts() -> None:
    config = QuantConfig("int8", opname_blacklist=["lm_head", "layers.1", "mlp.gate_proj"])  # type: ignore[arg-type]
    float_layers = {name for name in NAMES if config.policy_for(name) is None}
    expected = {name for name in NAMES if name == "lm_head" or ".1." in name or "gate" in name}
    assert float_layers == expected
    assert config.opname_blacklist == ("lm_head", "layers.1", "mlp.gate_proj")


def test_first_policy_that_matches_counts() -> None:
    config = QuantConfig(
        weight_quant_dtype="int4",
        weight_quant_granularity="per_group",
        group_size=32,
        algo_args=AlgorithmArgs(damp_percent=0.05),
        layer_policies={
            r"model\.layers\.0\..*": None,
            r".*\.down_proj": {
                "weight_quant_dtype": "int8",
                "weight_quant_granularity": "per_channel",
                "group_size": 0,
                "algo_args": {"desc_act": True},
            },
            r".*\.mlp\..*": {"group_size": 128, "precision_recovery": "gptq"},
            "lm_hea": None,
        },
    )
    assert config.policy_for("model.layers.0.mlp.down_proj") is None
    assert policy(config).bits == 8 and policy(config).group_size == 0
    assert policy(config).args == AlgorithmArgs(damp_percent=0.05, desc_act=True)
    gate = policy(config, "model.layers.3.mlp.gate_proj")
    assert (gate.bits, gate.group_size, gate.precision_recovery) == (4, 128, "gptq")
    assert policy(config, "model.layers.3.self_attn.q_proj").precision_recovery is None
    assert policy(config, "lm_head").bits == 4, "a pattern fits a whole name"


def test_names_that_fit_nothing_are_told() -> None:
    QuantConfig("int8", opname_blacklist=("lm_head",), layer_policies={".*q_proj": None}).check_names(NAMES)
    with pytest.raises(
        QuantConfigError, match=r"opname_blacklist: 'lmhead' fits no layer \(there are: model"
    ):
        QuantConfig("int8", opname_blacklist=("lmhead",)).check_names(NAMES)
    with pytest.raises(QuantConfigError, match=r"layer_policies\['q_proj'\]: fits no layer"):
        QuantConfig("int8", layer_policies={"q_proj": None}).check_names(NAMES)


INT8 = {"weight_quant_dtype": "int8"}
A8W8 = {**INT8, "act_quant_dtype": "int8"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"weight_quant_dtype": "int3"}, "weight_quant_dtype: int3 is not one of none, int8, int4"),
        ({"weight_quant_dtype": 8}, "weight_quant_dtype: 8 is not one of"),
        ({"weight_quant_dtype": True}, "weight_quant_dtype: true is not one of"),
        ({"act_quant_dtype": "int4"}, "act_quant_dtype: int4 is not one of none, int8"),
        ({"act_quant_dtype": "int8"}, "act_quant_dtype: int8 needs weight_quant_dtype int8 or int4"),
        ({"precision_recovery": "gptq"}, "precision_recovery: gptq needs weight_quant_dtype"),
        ({"outliers_suppression": "awq"}, "outliers_suppression: awq needs weight_quant_dtype"),
        ({"kvcache_quant_dtype": "fp8"}, "kvcache_quant_dtype: fp8 is not one of none, int8"),
        ({"weight_quant_granularity": None}, "weight_quant_granularity: none is not one of per_channel"),
        ({**INT8, "group_size": 16}, "group_size: 16 is not one of 0, 32, 64, 128"),
        ({**INT8, "group_size": 32}, "group_size: 32 needs weight_quant_granularity per_group"),
        ({**INT8, "weight_quant_granularity": "per_group"}, "group_size: missing"),
        ({**INT8, "weight_symmetric": 1}, "weight_symmetric: 1 is not one of true, false"),
        ({**INT8, "outliers_suppression": "smooth"}, "smooth .* needs act_quant_dtype int8"),
        ({**A8W8, "outliers_suppression": "awq"}, "awq is for weights alone"),
        ({**A8W8, "weight_quant_dtype": "int4"}, "weight_quant_dtype: int4 does not go with act_quant_dtype"),
        (
            {**A8W8, "weight_quant_granularity": "per_group", "group_size": 32},
            r"weight_quant_granularity: per_group does not go .*\(allowed: per_channel\)",
        ),
        ({**A8W8, "weight_symmetric": False}, "weight_symmetric: false does not go"),
        ({"opname_blacklist": "lm_head"}, "opname_blacklist: expected a list"),
        ({"opname_blacklist": [1]}, "opname_blacklist: expected names"),
        ({"layer_policies": []}, "layer_policies: expected a mapping"),
        ({"layer_policies": {"(": None}}, r"layer_policies\['\('\]: not a regular expression"),
        ({"layer_policies": {1: None}}, r"layer_policies\[1\]: a pattern is a string"),
        ({"layer_policies": {"a": 3}}, r"layer_policies\['a'\]: expected a mapping of fields or none"),
        ({"layer_policies": {"a": {"bits": 4}}}, r"layer_policies\['a'\].bits: unknown field"),
        ({"layer_policies": {"a": {"group_size": 5}}}, r"layer_policies\['a'\].group_size: 5 is not"),
        ({"layer_policies": {"a": {"kvcache_quant_dtype": "int8"}}}, "applies to the whole network"),
        ({"algo_args": 3}, "algo_args: expected a mapping"),
        ({"algo_args": {"alpha": 1}}, "algo_args.alpha: unknown field"),
        ({"algo_args": {"smooth_alpha": 2}}, "smooth_alpha: 2 is not a number from 0 to 1"),
        ({"algo_args": {"block_size": 0}}, "block_size: 0 is not an integer of at least 1"),
        ({"algo_args": {"desc_act": 1}}, "desc_act: 1 is not one of true, false"),
        ({"weight_dtype": "int8"}, "weight_dtype: unknown field"),
        ({"preset": "a4w4"}, "preset: 'a4w4' is not one of none, a16w8"),
        ([], "expected a mapping of fields, found list"),
    ],
)
def test_mistakes_are_named_in_one_line(values: Any, message: str) -> None:
    with pytest.raises(QuantConfigError, match=message) as caught:
        from_fields(values)
    assert "\n" not in str(caught.value) and isinstance(caught.value, ExportError)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "a4"}, "--quant: 'a4' is not one of none, a16w8"),
        ({"name": "a16w8", "method": "magic"}, "--method: 'magic' is not one of rtn"),
        ({"name": "a16w8", "method": "smoothquant"}, "needs act_quant_dtype"),
        ({"name": "a16w4", "group_size": 33}, "group_size: 33"),
        ({"name": "none", "method": "awq"}, "awq needs weight_quant_dtype"),
    ],
)
def test_wrong_flags_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(QuantConfigError, match=message):
        preset(**arguments)


def test_yaml(tmp_path: Path) -> None:
    file = tmp_path / "quant.yaml"
    file.write_text(
        """
# int4 with a few exceptions
preset: a16w4-g64
precision_recovery: gptq
kvcache_quant_dtype: int8
opname_blacklist: [lm_head]
layer_policies:
  '.*\\.down_proj': {weight_quant_dtype: int8, weight_quant_granularity: per_channel, group_size: 0}
  'model\\.layers\\.0\\..*': null
algo_args:
  desc_act: true
"""
    )
    config = from_yaml(file)
    assert policy(config).bits == 8
    assert policy(config, "model.layers.3.mlp.up_proj").group_size == 64
    assert policy(config, "model.layers.3.mlp.up_proj").args.desc_act
    assert config.policy_for("lm_head") is None and config.kvcache_quant_dtype == "int8"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: [", "not valid YAML"),
        ("", "expected a mapping of fields, found nothing"),
        ("weight_quant_dtype: int9", "weight_quant_dtype: int9"),
        ("group_size: 32\ngroup_size: 64", r"group_size: given twice \(line 2\)"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_yaml_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "quant.yaml"
    file.write_text(content)
    with pytest.raises(QuantConfigError, match=rf"quant\.yaml: {message}") as caught:
        from_yaml(file)
    assert "\n" not in str(caught.value)


def test_without_pyyaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(QuantConfigError, match="needs PyYAML: pip install"):
        from_yaml(tmp_path / "quant.yaml")


CHOICES = {
    "weight_quant_dtype": st.sampled_from([None, "int8", "int4"]),
    "act_quant_dtype": st.sampled_from([None, "int8"]),
    "kvcache_quant_dtype": st.sampled_from([None, "int8"]),
    "outliers_suppression": st.sampled_from([None, "smooth", "outlier_suppression_lite", "awq"]),
    "precision_recovery": st.sampled_from([None, "gptq"]),
    "weight_quant_granularity": st.sampled_from(["per_channel", "per_group"]),
    "act_quant_granularity": st.sampled_from(["per_tensor", "per_token"]),
    "group_size": st.sampled_from([0, 32, 64, 128]),
    "weight_symmetric": st.booleans(),
    "opname_blacklist": st.lists(st.sampled_from(["lm_head", "layers.0"]), unique=True),
    "layer_policies": st.dictionaries(
        st.sampled_from([".*q_proj", "lm_.*"]), st.sampled_from([None, {}, {"weight_symmetric": True}])
    ),
    "algo_args": st.fixed_dictionaries({}, optional={"desc_act": st.booleans(), "block_size": st.just(64)}),
}


@settings(max_examples=200, derandomize=True, deadline=None, phases=[Phase.generate])
@given(st.fixed_dictionaries({}, optional=CHOICES))  # type: ignore[arg-type]
def test_fields_come_back(values: dict[str, Any]) -> None:
    """Any fields either make a configuration that survives JSON, or are refused in one line."""
    try:
        config = from_fields(values)
    except QuantConfigError as error:
        assert "\n" not in str(error)
        return
    assert from_fields(json.loads(json.dumps(config.to_fields()))) == config
    for name in NAMES:
        config.policy_for(name)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.group_size = 3  # type: ignore[misc]
