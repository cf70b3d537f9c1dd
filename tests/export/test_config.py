"""config.json is checked field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_checkpoint import tiny_config

from mindir_llm.models.config import ConfigError, Llama3Scaling, LlamaConfig
from mindir_llm.models.rotary import inverse_frequencies, rotary_tables

LLAMA3 = {
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
ABSENT = object()


def changed(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in tiny_config(**changes).items() if value is not ABSENT}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "qwen2"}, "model_type: 'qwen2'"),
        ({"model_type": ABSENT}, "model_type"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"hidden_act": ABSENT}, "hidden_act: missing"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"pretraining_tp": 2}, "pretraining_tp"),
        ({"pretraining_tp": True}, "pretraining_tp"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"sliding_window": 4096}, "sliding_window"),
        ({"model_type": "mistral"}, "sliding_window: missing"),
        ({"model_type": "mistral", "sliding_window": 4096}, "sliding_window"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling: type 'linear'"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_scaling: type 'yarn'"),
        ({"rope_scaling": {"rope_type": "llama3", "type": "linear"}}, "rope_type and type differ"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling.low_freq_factor: missing"),
        ({"rope_scaling": {"rope_type": "llama3", **LLAMA3, "surprise": 1}}, "rope_scaling.surprise"),
        ({"rope_scaling": {"factor": 2.0}}, "rope_scaling.factor"),
        ({"rope_scaling": 2.0}, "rope_scaling: expected an object"),
        ({"rope_parameters": {"rope_theta": 5.0}}, "contradicts rope_theta"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters: type 'yarn'"),
        ({"logit_scale": 0.5}, "logit_scale: unknown field"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: 3 does not divide"),
        ({"num_attention_heads": 5, "num_key_value_heads": 5}, "head_dim: missing"),
        ({"head_dim": 7}, "head_dim: 7 is odd"),
        ({"hidden_size": ABSENT}, "hidden_size: missing"),
        ({"hidden_size": -1}, "hidden_size: expected an integer"),
        ({"vocab_size": 50.0}, "vocab_size: expected an integer"),
        ({"num_hidden_layers": 2**40}, "num_hidden_layers: expected an integer"),
        ({"rms_norm_eps": ABSENT}, "rms_norm_eps: missing"),
        ({"rope_theta": -1}, "rope_theta: expected a positive number"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: expected true or false"),
    ],
)
def test_unsupported_field_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LlamaConfig.from_fields(changed(**changes))
    assert named in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"transformers_version": "4.45.0", "use_cache": True, "torch_dtype": "bfloat16"},
        {"pretraining_tp": 1, "mlp_bias": False, "rope_scaling": None, "quantization_config": None},
        {"model_type": "mistral", "sliding_window": None},
        {"rope_scaling": {"rope_type": "default"}},
    ],
)
def test_harmless_fields_are_accepted(changes: dict[str, Any]) -> None:
    assert LlamaConfig.from_fields(changed(**changes)).rope_scaling is None


def test_defaults_are_those_of_transformers() -> None:
    config = LlamaConfig.from_fields(changed(num_key_value_heads=ABSENT, rope_theta=ABSENT))
    assert (config.num_key_value_heads, config.head_dim, config.rope_theta) == (4, 8, 10000.0)
    assert config.attention_bias is False


@pytest.mark.parametrize(
    "changes",
    [
        {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
        {"rope_theta": 500000.0, "rope_scaling": {"type": "llama3", **LLAMA3}},
        {"rope_theta": ABSENT, "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3}},
    ],
)
def test_three_spellings_of_llama3_scaling(changes: dict[str, Any]) -> None:
    config = LlamaConfig.from_fields(changed(**changes))
    assert config.rope_theta == 500000.0
    assert config.rope_scaling == Llama3Scaling(32.0, 1.0, 4.0, 8192)
    assert json.loads(json.dumps(config.to_json()))["rope_scaling"] == {"rope_type": "llama3", **LLAMA3}


def test_file_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match="no such file"):
        LlamaConfig.from_file(path)
    for text in ("{", "[]", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError, match=r"config\.json: "):
            LlamaConfig.from_file(path)
    path.write_text(json.dumps(tiny_config(mlp_bias=True)))
    with pytest.raises(ConfigError, match=r"config\.json: mlp_bias"):
        LlamaConfig.from_file(path)


def test_llama3_frequencies_keep_short_waves_and_stretch_long_ones() -> None:
    scaled = changed(head_dim=64, rope_theta=500000.0, rope_scaling={"rope_type": "llama3", **LLAMA3})
    plain = changed(head_dim=64, rope_theta=500000.0)
    ratio = inverse_frequencies(LlamaConfig.from_fields(scaled)) / inverse_frequencies(
        LlamaConfig.from_fields(plain)
    )
    assert ratio[0] == 1.0
    assert ratio[-1] == pytest.approx(1 / 32)
    assert np.all(np.diff(ratio) <= 0)
    assert np.any((ratio > 1 / 32) & (ratio < 1))


def test_rotary_tables_repeat_their_half() -> None:
    cos, sin = rotary_tables(LlamaConfig.from_fields(tiny_config()), 9)
    assert cos.shape == sin.shape == (9, 8)
    assert cos.dtype == sin.dtype == np.float32
    np.testing.assert_array_equal(cos[:, :4], cos[:, 4:])
    np.testing.assert_allclose(np.arctan2(sin, cos)[1, :4], 10000.0 ** (-np.arange(0, 8, 2) / 8), rtol=1e-6)
