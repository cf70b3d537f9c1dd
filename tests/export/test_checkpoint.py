"""Checkpoints are validated before anything is written."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.export.checkpoint import Checkpoint
from mindir_llm.export.errors import ExportError
from mindir_llm.export.trace import ParameterSpec
from mindir_llm.export.weights import WeightPlan
from mindir_llm.tools.random_checkpoint import write_random_checkpoint


def read_all(checkpoint: Checkpoint, name: str, dtype: str) -> NDArray[Any]:
    return np.concatenate(list(checkpoint.blocks(name, dtype)))


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("stored", ["float16", "float32"])
def test_reads_what_safetensors_wrote(tmp_path: Path, shards: int, stored: str) -> None:
    tensors = {name: values.astype(stored) for name, values in random_tensors(tiny_config()).items()}
    checkpoint = Checkpoint.open(write_checkpoint(tmp_path, tiny_config(), tensors, shards))
    assert set(checkpoint.tensors) == set(tensors)
    for name, values in tensors.items():
        for wanted in ("float16", "float32"):
            np.testing.assert_array_equal(read_all(checkpoint, name, wanted), values.astype(wanted))


def test_reads_bfloat16(tmp_path: Path) -> None:
    write_random_checkpoint(tiny_config(), tmp_path, shard_bytes=4000)
    checkpoint = Checkpoint.open(tmp_path)
    assert len({entry.file for entry in checkpoint.tensors.values()}) > 2
    values = read_all(checkpoint, "model.embed_tokens.weight", "float32")
    assert 0.01 < values.std() < 0.03
    assert not np.any(values.view(np.uint32) & 0xFFFF), "bfloat16 has 16 bits"
    np.testing.assert_array_equal(read_all(checkpoint, "model.norm.weight", "float32"), 1)


def test_large_tensors_come_in_blocks(tmp_path: Path) -> None:
    values = np.arange(5000 * 2048, dtype=np.float32).reshape(5000, 2048)
    save_file({"w": values}, tmp_path / "model.safetensors")
    blocks = list(Checkpoint.open(tmp_path).blocks("w", "float32"))
    assert len(blocks) > 2
    np.testing.assert_array_equal(np.concatenate(blocks), values)


def test_missing_folder_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"nowhere: not a folder"):
        Checkpoint.open(tmp_path / "nowhere")
    with pytest.raises(ExportError, match=r"neither model\.safetensors nor"):
        Checkpoint.open(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(ExportError, match="convert the checkpoint to safetensors"):
        Checkpoint.open(tmp_path)


def test_damaged_index_is_named(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, tiny_config(), random_tensors(tiny_config()), shards=2)
    index = tmp_path / "model.safetensors.index.json"
    good = json.loads(index.read_text())["weight_map"]
    name = "model.norm.weight"
    cases: list[tuple[Any, str]] = [
        ([], "expected a JSON object"),
        ({"weight_map": []}, "weight_map"),
        ({"weight_map": {**good, name: 1}}, "weight_map"),
        ({"weight_map": {**good, name: "../x.safetensors"}}, f"{name} points outside"),
        ({"weight_map": {**good, name: "gone.safetensors"}}, "gone.safetensors: missing"),
        ({"weight_map": {**good, "extra": good[name]}}, "has no tensor extra"),
    ]
    for content, message in cases:
        index.write_text(json.dumps(content))
        with pytest.raises(ExportError, match=message):
            Checkpoint.open(tmp_path)
    index.write_text("{")
    with pytest.raises(ExportError, match="not valid JSON"):
        Checkpoint.open(tmp_path)


def test_truncated_file_is_refused_at_every_length(tmp_path: Path) -> None:
    save_file({"a": np.ones((3, 5), np.float32), "b": np.ones(2, np.float16)}, tmp_path / "model.safetensors")
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ExportError, match=r"model\.safetensors: "):
            Checkpoint.open(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b'{"w": 1}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0]}}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 9999999]}}',
        b'{"w": {"dtype": "F32", "shape": [-2], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}}',
        b'{"w": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": "F32", "shape": [true, 2], "data_offsets": [0, 8]}}',
        b'{"w": {"dtype": 7, "shape": [2], "data_offsets": [0, 8]}}',
        b"\xff\xfe",
    ],
)
def test_damaged_header_is_refused(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(8))
    with pytest.raises(ExportError, match=r"model\.safetensors: "):
        Checkpoint.open(tmp_path)


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    big = np.full((2, 2), 1e6, np.float32)
    save_file(
        {"big": big, "nan": big * np.nan, "ids": np.ones((2, 2), np.int32)}, tmp_path / "model.safetensors"
    )
    checkpoint = Checkpoint.open(tmp_path)
    np.testing.assert_array_equal(read_all(checkpoint, "big", "float32"), big)
    with pytest.raises(
        ExportError, match="big has values that float16 cannot hold; export with --dtype float32"
    ):
        read_all(checkpoint, "big", "float16")
    for dtype in ("float16", "float32"):
        with pytest.raises(ExportError, match="nan has values that are not finite"):
            read_all(checkpoint, "nan", dtype)
    with pytest.raises(ExportError, match="ids has type I32"):
        checkpoint.check_readable("ids", (2, 2))


def test_every_missing_unexpected_or_misshapen_tensor_is_named(tmp_path: Path) -> None:
    tensors = {name: np.ones((2, 3), np.float32) for name in ("a", "b", "model.layers.0.rotary_emb.inv_freq")}
    save_file(tensors, tmp_path / "model.safetensors")
    checkpoint = Checkpoint.open(tmp_path)

    def plan(*specs: ParameterSpec, tied: dict[str, str] | None = None) -> WeightPlan:
        return WeightPlan(checkpoint, specs, {}, tied or {})

    a, b, c = (ParameterSpec(name, (2, 3), "float32") for name in "abc")
    plan(a, b)
    plan(a, b, c, tied={"c": "a"})
    with pytest.raises(ExportError, match="missing tensors: c"):
        plan(a, b, c)
    with pytest.raises(ExportError, match=r"unexpected tensors.*: b"):
        plan(a)
    with pytest.raises(ExportError, match=r"tensor b has shape \[2, 3\], config.json asks for \[3, 2\]"):
        plan(a, ParameterSpec("b", (3, 2), "float32"))


def test_a_tied_model_may_carry_its_own_lm_head(tmp_path: Path) -> None:
    """transformers ignores it, and so do we."""
    save_file(
        {"e": np.ones((2, 3), np.float32), "h": np.zeros((2, 3), np.float32)}, tmp_path / "model.safetensors"
    )
    spec = [ParameterSpec(name, (2, 3), "float32") for name in ("e", "h")]
    plan = WeightPlan(Checkpoint.open(tmp_path), spec, {}, {"h": "e"})
    values = {spec.name: np.concatenate(list(blocks)) for spec, blocks in plan.values()}
    np.testing.assert_array_equal(values["h"], 1)
