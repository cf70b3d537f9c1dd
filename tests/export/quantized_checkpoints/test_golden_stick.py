"""Reading Golden Stick's int8 layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantized_checkpoints import QuantizedLinear, open_quantized

NAME = "model.layers.0.self_attn.o_proj"


def layer(kind: str, offset: bool = False) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(0)
    tensors: dict[str, NDArray[Any]] = {
        "weight": rng.integers(-128, 128, (6, 10), dtype=np.int8),
        "weight_scale": rng.uniform(0.01, 1, 6).astype(np.float16),
        "weight_offset": rng.integers(-128, 128, 6, dtype=np.int32) if offset else np.zeros(6, np.int32),
    }
    if kind == "W8A8":
        tensors |= {
            "input_scale": np.full(10, 0.25, np.float16),
            "input_offset": np.full(10, -3, np.int32),
            "deq_scale": np.ones(6, np.float32),
            "quant_bias": np.ones(6, np.int32),
        }
    return tensors


def write(folder: Path, kind: str, tensors: dict[str, NDArray[Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text("{}")
    description = {f"{NAME}.{part}": kind for part in tensors} | {
        "model.norm.weight": "FLOAT",
        "group_size": 0,
    }
    (folder / "quantization_description.json").write_text(json.dumps(description))
    named = {f"{NAME}.{part}": value for part, value in tensors.items()}
    save_file(named | {"model.norm.weight": np.ones(4, np.float16)}, folder / "model.safetensors")
    return folder


def read(folder: Path) -> QuantizedLinear:
    source = open_quantized(folder)
    assert source is not None and source.names == (NAME,) and source.method == "golden-stick"
    return source.linear(NAME)


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("kind", ["W8A16", "W8A8_DYNAMIC", "W8A8"])
def test_int8(tmp_path: Path, kind: str, offset: bool) -> None:
    tensors = layer(kind, offset)
    linear = read(write(tmp_path, kind, tensors))
    signed, zero = linear.signed()
    np.testing.assert_array_equal(signed, tensors["weight"])
    np.testing.assert_array_equal(zero[:, 0], tensors["weight_offset"])
    expected = (tensors["weight"].astype(float) - tensors["weight_offset"][:, None]) * tensors[
        "weight_scale"
    ].astype(float)[:, None]
    np.testing.assert_allclose(linear.dequantize(), expected, rtol=1e-6)
    assert linear.bits == 8 and linear.group_size == 0 and linear.is_symmetric == (not offset)
    assert (linear.act_scale, linear.act_zero) == ((0.25, -3) if kind == "W8A8" else (None, 0))


def test_one_input_scale_for_all_channels(tmp_path: Path) -> None:
    tensors = layer("W8A8") | {
        "input_scale": np.array([0.5], np.float32),
        "bias": np.arange(6, dtype=np.float16),
    }
    del tensors["input_offset"]
    linear = read(write(tmp_path, "W8A8", tensors))
    assert (linear.act_scale, linear.act_zero) == (0.5, 0)
    assert linear.bias is not None and linear.bias[5] == 5


def test_only_float_tensors_are_no_quantized_checkpoint(tmp_path: Path) -> None:
    assert open_quantized(write(tmp_path, "FLOAT", layer("W8A16"))) is None


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("W4A16", {}, r"o_proj\.weight: type 'W4A16' is not supported \(supported: FLOAT, W8A16"),
        (
            "W8A8",
            {"smooth_scale": np.ones(10, np.float16)},
            "smooth_scale: smoothed layers .* --method smoothquant",
        ),
        ("W8A8", {"input_scale": np.arange(10, dtype=np.float16)}, "input_scale: differs between channels"),
        ("W8A8", {"input_scale": None}, r"missing tensors: .*input_scale"),
        ("W8A16", {"weight_offset": np.full(6, 200, np.int32)}, "weight_offset: values outside"),
        ("W8A16", {"weight_scale": np.ones(5, np.float16)}, r"weight_scale has shape \[5\], expected \[6\]"),
        ("W8A16", {"weight_scale": None}, r"missing tensors: .*weight_scale"),
        ("W8A16", {"weight": np.ones((6, 10), np.float16)}, "has type F16, expected I8"),
    ],
)
def test_unsupported_and_damaged_ones_are_named(
    tmp_path: Path, kind: str, changes: dict[str, Any], message: str
) -> None:
    tensors = {k: v for k, v in (layer(kind) | changes).items() if v is not None}
    with pytest.raises(ExportError, match=message):
        read(write(tmp_path, kind, tensors))
