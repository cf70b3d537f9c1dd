"""Reading AutoAWQ's and GPTQ's layouts: against packers of the tests' own, and against words by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from packers import awq_tensors, awq_words, gptq_tensors, row_words
from safetensors.numpy import save_file
from tiny_checkpoint import tiny_config

from mindir_llm.export.errors import ExportError
from mindir_llm.export.quantized_checkpoints import QuantizedLinear, open_quantized
from mindir_llm.export.quantized_checkpoints.linear import unpack

NAME = "model.layers.0.mlp.up_proj"
AWQ: dict[str, Any] = {
    "quant_method": "awq",
    "bits": 4,
    "group_size": 16,
    "zero_point": True,
    "version": "gemm",
    "modules_to_not_convert": None,
}
GPTQ: dict[str, Any] = {
    "quant_method": "gptq",
    "bits": 4,
    "group_size": 16,
    "sym": False,
    "desc_act": False,
    "damp_percent": 0.01,
}


def write(folder: Path, settings: Any, tensors: dict[str, NDArray[Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": settings}))
    save_file(tensors, folder / "model.safetensors")
    return folder


def random_layer(
    bits: int = 4, outputs: int = 24, inputs: int = 40, groups: int = 3, seed: int = 0
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float16]]:
    """Integers [out, in], zeros and scales [out, groups]; every integer occurs."""
    rng = np.random.default_rng(seed)
    integers = rng.integers(0, 1 << bits, (outputs, inputs))
    zero = rng.integers(0, 1 << bits, (outputs, groups))
    scale = rng.uniform(0.001, 1, (outputs, groups)).astype(np.float16)
    return integers, zero, scale


def read(folder: Path, name: str = NAME) -> QuantizedLinear:
    source = open_quantized(folder)
    assert source is not None
    return source.linear(name)


def check(
    linear: QuantizedLinear,
    integers: NDArray[Any],
    zero: NDArray[Any],
    scale: NDArray[np.float16],
    group_of: NDArray[Any],
) -> None:
    np.testing.assert_array_equal(linear.integers, integers)
    np.testing.assert_array_equal(linear.zero, zero)
    np.testing.assert_array_equal(linear.scale, scale)
    np.testing.assert_array_equal(linear.group_of, group_of)
    assert (linear.integers.dtype, linear.zero.dtype) == (np.uint8, np.uint8)
    assert (linear.scale.dtype, linear.group_of.dtype) == (np.float32, np.int32)
    expected = np.empty(integers.shape)
    for o in range(integers.shape[0]):
        for i in range(integers.shape[1]):
            g = group_of[i]
            expected[o, i] = (int(integers[o, i]) - int(zero[o, g])) * float(scale[o, g])
    np.testing.assert_allclose(linear.dequantize(), expected, rtol=1e-6)
    signed, signed_zero = linear.signed()
    middle = 1 << (linear.bits - 1)
    np.testing.assert_array_equal(signed, integers - middle)
    np.testing.assert_array_equal(signed_zero, zero - middle)


def test_words_by_hand() -> None:
    words = np.array([[0x76543210, -0x789ABCDF]], np.int32)  # the second is 0x87654321
    np.testing.assert_array_equal(unpack(words, 4, 1), [[0, 1, 2, 3, 4, 5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 8]])
    np.testing.assert_array_equal(unpack(words, 8, 1), [[0x10, 0x32, 0x54, 0x76, 0x21, 0x43, 0x65, 0x87]])
    np.testing.assert_array_equal(unpack(words.T, 8, 0)[:, 0], unpack(words, 8, 1)[0])
    # The packers of these tests, likewise.
    assert row_words(np.arange(8)[None], 4)[0, 0] == 0x76543210
    assert awq_words(np.arange(8)[None])[0, 0] == 0x75316420


@pytest.mark.parametrize("group_size", [16, -1])
def test_awq(tmp_path: Path, group_size: int) -> None:
    integers, zero, scale = random_layer(groups=3 if group_size == 16 else 1)
    tensors = awq_tensors(NAME, integers, zero, scale)
    tensors[f"{NAME}.bias"] = np.arange(24, dtype=np.float16)
    tensors["model.norm.weight"] = np.ones(4, np.float16)
    folder = write(tmp_path, {**AWQ, "group_size": group_size}, tensors)
    source = open_quantized(folder)
    assert source is not None and source.names == (NAME,)
    linear = source.linear(NAME)
    group_of = np.arange(40) // 16 if group_size == 16 else np.zeros(40, int)
    check(linear, integers, zero, scale, group_of)
    assert linear.group_size == (16 if group_size == 16 else 0) and not linear.is_symmetric
    np.testing.assert_array_equal(linear.bias, np.arange(24))  # type: ignore[arg-type]
    assert next(source.checkpoint.blocks("model.norm.weight", np.float32)).sum() == 4


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("stored", [None, "gptq", "gptq_v2"])
@pytest.mark.parametrize("desc_act", [False, True])
def test_gptq(tmp_path: Path, bits: int, stored: str | None, desc_act: bool) -> None:
    integers, zero, scale = random_layer(bits)
    assert (zero == 0).any() or bits == 8, "a zero point of 0 is stored as the largest integer"
    group_of = np.arange(40) // 16
    if desc_act:
        group_of = np.random.default_rng(1).permutation(group_of)
    tensors = gptq_tensors(NAME, integers, zero, scale, group_of, bits, less_one=stored != "gptq_v2")
    settings = {**GPTQ, "bits": bits, "desc_act": desc_act}
    if stored is not None:
        settings["checkpoint_format"] = stored
    linear = read(write(tmp_path, settings, tensors))
    check(linear, integers, zero, scale, group_of)
    assert linear.bits == bits and linear.bias is None
    assert linear.group_size == (None if desc_act else 16)


def test_symmetric_gptq(tmp_path: Path) -> None:
    integers, zero, scale = random_layer()
    zero = np.full_like(zero, 8)
    group_of = np.arange(40) // 16
    for less_one in (True, False):  # some writers store 'gptq_v2' and call it 'gptq'
        tensors = gptq_tensors(NAME, integers, zero, scale, group_of, 4, less_one)
        linear = read(write(tmp_path, {**GPTQ, "sym": True}, tensors))
        check(linear, integers, zero, scale, group_of)
        assert linear.is_symmetric
        assert not linear.signed()[1].any()


def test_without_g_idx_groups_are_successive(tmp_path: Path) -> None:
    integers, zero, scale = random_layer()
    group_of = np.arange(40) // 16
    tensors = gptq_tensors(NAME, integers, zero, scale, group_of, 4)
    del tensors[f"{NAME}.g_idx"]
    check(read(write(tmp_path, GPTQ, tensors)), integers, zero, scale, group_of)
    with pytest.raises(ExportError, match=r"up_proj\.g_idx: missing, but .*desc_act is true"):
        read(write(tmp_path, {**GPTQ, "desc_act": True}, tensors))


def test_outputs_that_do_not_fill_the_last_word_of_zeros(tmp_path: Path) -> None:
    integers, zero, scale = random_layer(outputs=21)
    group_of = np.arange(40) // 16
    tensors = gptq_tensors(NAME, integers, zero, scale, group_of, 4)
    check(read(write(tmp_path, GPTQ, tensors)), integers, zero, scale, group_of)


def test_scattered_groups_can_be_put_in_order(tmp_path: Path) -> None:
    integers, zero, scale = random_layer()
    group_of = np.random.default_rng(1).permutation(np.arange(40) // 16)
    tensors = gptq_tensors(NAME, integers, zero, scale, group_of, 4)
    linear = read(write(tmp_path, {**GPTQ, "desc_act": True}, tensors))
    permutation, ordered = linear.in_group_order()
    assert ordered.group_size == 16
    x = np.random.default_rng(2).standard_normal((3, 40)).astype(np.float32)
    np.testing.assert_allclose(
        x @ linear.dequantize().T, x[:, permutation] @ ordered.dequantize().T, atol=1e-4
    )


def test_the_network_is_read_from_the_same_config(tmp_path: Path) -> None:
    tensors = awq_tensors(NAME, *random_layer())
    folder = write(tmp_path, AWQ, tensors)
    fields = tiny_config(quantization_config=AWQ)
    (folder / "config.json").write_text(json.dumps(fields))
    source = open_quantized(folder)
    assert source is not None and source.config().hidden_size == fields["hidden_size"]
    (folder / "config.json").write_text(json.dumps(fields | {"mlp_bias": True}))
    with pytest.raises(ExportError, match=r"config\.json: mlp_bias"):
        source.config()


def test_a_float_checkpoint_is_none(tmp_path: Path) -> None:
    assert open_quantized(write(tmp_path, None, {"a": np.zeros(1, np.float32)})) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (3, "quantization_config: expected an object"),
        ({**AWQ, "quant_method": "bitsandbytes"}, "quant_method: 'bitsandbytes' is not supported"),
        ({}, "quant_method: None is not supported"),
        ({**AWQ, "bits": 8}, "bits: 8 is not supported with awq"),
        ({**GPTQ, "bits": 3}, r"bits: 3 is not supported with gptq \(supported: 4, 8\)"),
        ({**GPTQ, "bits": None}, "bits: None"),
        ({**GPTQ, "group_size": 0}, "group_size: 0 is neither"),
        ({**GPTQ, "group_size": "128"}, "group_size: '128' is neither"),
        ({**AWQ, "version": "gemv"}, "version: 'gemv' is not supported"),
        ({**AWQ, "zero_point": False}, "zero_point: False is not supported"),
        ({**GPTQ, "checkpoint_format": "marlin"}, "checkpoint_format: 'marlin' is not supported"),
        ({**GPTQ, "sym": 1}, "sym: 1 is not supported"),
    ],
)
def test_unsupported_settings_are_named(tmp_path: Path, settings: Any, message: str) -> None:
    with pytest.raises(ExportError, match=rf"config\.json: .*{message}"):
        open_quantized(write(tmp_path, settings, {"a": np.zeros(1, np.float32)}))


def test_damaged_checkpoints_are_named(tmp_path: Path) -> None:
    integers, zero, scale = random_layer()
    good = gptq_tensors(NAME, integers, zero, scale, np.arange(40) // 16, 4)
    changes: list[tuple[str, Any, str]] = [
        ("qzeros", None, r"missing tensors: .*\.qzeros"),
        ("scales", None, r"missing tensors: .*\.scales"),
        ("qzeros", good[f"{NAME}.qzeros"][:2], r"qzeros has shape \[2, 3\], expected \[3, 3\]"),
        ("scales", good[f"{NAME}.scales"][:, :5], r"scales has shape \[3, 5\], expected \[3, 24\]"),
        ("scales", np.full((3, 24), np.inf, np.float16), "not finite"),
        ("scales", np.zeros((3, 24), np.int32), "has type I32"),
        ("qweight", np.zeros((5, 24), np.float32), "has type F32, expected I32"),
        ("qweight", np.zeros(5, np.int32), "expected a matrix"),
        ("g_idx", np.full(40, 3, np.int32), r"g_idx: groups outside of 0 … 2"),
        ("g_idx", np.zeros(39, np.int32), r"g_idx has shape \[39\], expected \[40\]"),
    ]
    for number, (part, value, message) in enumerate(changes):
        tensors = {**good, f"{NAME}.{part}": value}
        folder = write(tmp_path / str(number), GPTQ, {k: v for k, v in tensors.items() if v is not None})
        with pytest.raises(ExportError, match=message):
            read(folder)
    asymmetric = write(tmp_path / "sym", {**GPTQ, "sym": True}, good)
    with pytest.raises(ExportError, match=r"up_proj\.qzeros: zero points differ from 8, but .*sym is true"):
        read(asymmetric)
    with pytest.raises(ExportError, match=r"no tensor ends in \.qweight"):
        open_quantized(write(tmp_path / "none", GPTQ, {"a": np.zeros(1, np.float32)}))
    with pytest.raises(ExportError, match=r"config\.json: no such file"):
        open_quantized(tmp_path / "absent")
    cut = write(tmp_path / "cut", GPTQ, good)
    content = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(content[:-10])
    with pytest.raises(ExportError, match="incomplete"):
        open_quantized(cut)
