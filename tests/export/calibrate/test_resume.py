"""A calibration that was stopped continues; saved state that cannot be trusted is left out."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_checkpoint import random_tensors, tiny_config, write_checkpoint

from mindir_llm.export.calibrate import Calibration, CalibrationSettings, Site, calibrate

LAYERS = 3
SEQUENCES = [np.arange(1, 12, dtype=np.int32), np.arange(20, 27, dtype=np.int32)]
SETTINGS = CalibrationSettings(second_moment=True, drift=True, sample_rows=4)


class StoppedError(Exception):
    """The test's power failure."""


class Rounding:
    """Rounds weights and remembers by how much; fails when asked to."""

    def __init__(self, key: str = "rounding", stop_at: int = -1) -> None:
        self.key = key
        self.visited: list[str] = []
        self.errors: dict[str, float] = {}
        self._stop_at = stop_at

    def visit(self, site: Site) -> Mapping[str, NDArray[Any]]:
        if site.layer == self._stop_at and "self_attn.o_proj" in str(list(site.linears)):
            raise StoppedError
        rounded = {name: np.round(weight * 16) / 16 for name, weight in site.linears.items()}
        drift = site.statistics.drift
        for name, weight in site.linears.items():
            self.visited.append(name)
            self.errors[name] = float(np.abs(rounded[name] - weight).sum())
            if drift is not None:
                self.errors[name] += float(np.abs(drift).sum())
        return rounded

    def save(self, layer: int) -> Mapping[str, NDArray[Any]]:
        mine = f"model.layers.{layer}." if layer < LAYERS else "lm_head"
        return {name: np.asarray(error) for name, error in self.errors.items() if name.startswith(mine)}

    def restore(self, layer: int, saved: Mapping[str, NDArray[Any]]) -> None:
        self.errors.update({name: float(error) for name, error in saved.items()})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    config = tiny_config(num_hidden_layers=LAYERS)
    return write_checkpoint(tmp_path / "checkpoint", config, random_tensors(config))


def run(checkpoint: Path, cache: Path | None, visitor: Rounding, **options: Any) -> Calibration:
    return calibrate(checkpoint, SEQUENCES, SETTINGS, visitor, cache=cache, **options)


def assert_equal(a: Calibration, b: Calibration) -> None:
    assert list(a.inputs) == list(b.inputs) and a.tokens == b.tokens
    pairs = [(a.inputs[name], b.inputs[name]) for name in a.inputs]
    pairs += list(zip(a.keys + a.values, b.keys + b.values, strict=True))
    for left, right in pairs:
        one, other = left.arrays(), right.arrays()
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype


def stop(checkpoint: Path, cache: Path, layer: int = 2) -> Path:
    """Leave the state of an unfinished run; returns its folder."""
    with pytest.raises(StoppedError):
        run(checkpoint, cache, Rounding(stop_at=layer))
    (folder,) = cache.iterdir()
    return folder


@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_a_stopped_run_continues(checkpoint: Path, tmp_path: Path, memory_limit: int) -> None:
    whole = Rounding()
    expected = run(checkpoint, None, whole)
    folder = stop(checkpoint, tmp_path / "cache")
    names = {"state.json", "step-0000.npz", "step-0001.npz", "hidden-0001.bin"}
    assert {path.name for path in folder.iterdir()} == names
    calls: list[tuple[int, int, str]] = []
    second = Rounding()
    found = run(
        checkpoint,
        tmp_path / "cache",
        second,
        memory_limit=memory_limit,
        progress=lambda *call: calls.append(call),
    )
    assert_equal(found, expected)
    assert second.errors == whole.errors
    assert not [name for name in second.visited if name.startswith(("model.layers.0.", "model.layers.1."))]
    assert calls[0][0] == 2 * 2 * 5 + 1, "progress continues too"
    # A third run has nothing left to do, and no hidden states are kept.
    third = Rounding()
    assert_equal(run(checkpoint, tmp_path / "cache", third), expected)
    assert not third.visited and third.errors == whole.errors
    assert not list(folder.glob("hidden*"))


def _cut(folder: Path) -> None:
    os.truncate(folder / "hidden-0001.bin", 100)


def _flip(folder: Path) -> None:
    content = bytearray((folder / "step-0000.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "step-0000.npz").write_bytes(content)


def _rewrite(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        state = json.loads((folder / "state.json").read_text())
        (folder / "state.json").write_text(json.dumps(state | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (_cut, "hidden-0001.bin is missing or cut off"),
        (_flip, "step-0000.npz is damaged"),
        (lambda folder: (folder / "step-0001.npz").unlink(), "step-0001.npz is missing"),
        (lambda folder: (folder / "state.json").write_text("{"), "state.json is damaged"),
        (lambda folder: (folder / "state.json").write_text("[]"), "state.json is damaged"),
        (lambda folder: (folder / "state.json").write_bytes(b"\xff"), "state.json: "),
        (_rewrite(key="0" * 64), "another checkpoint, text or version"),
        (_rewrite(format=99), "another checkpoint, text or version"),
        (_rewrite(steps=3), "state.json is damaged"),
        (_rewrite(steps="2"), "state.json is damaged"),
        (_rewrite(files={"../x": {"size": 1, "sha256": ""}}, steps=0), "missing or cut off"),
    ],
)
def test_damaged_state_is_left_out(
    checkpoint: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(stop(checkpoint, tmp_path / "cache"))
    visitor = Rounding()
    with pytest.warns(UserWarning, match=f"saved calibration is not used: .*{message}"):
        found = run(checkpoint, tmp_path / "cache", visitor)
    assert visitor.visited[0].startswith("model.layers.0.")
    assert_equal(found, run(checkpoint, None, Rounding()))


def test_another_visitor_text_or_checkpoint_starts_anew(checkpoint: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    stop(checkpoint, cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = Rounding(key="other")
        run(checkpoint, cache, other)
        assert other.visited[0].startswith("model.layers.0.")
        calibrate(checkpoint, SEQUENCES[:1], SETTINGS, Rounding(), cache=cache)
        calibrate(checkpoint, SEQUENCES, CalibrationSettings(), Rounding(), cache=cache)
        # The same file written again, as if with other weights.
        file = checkpoint / "model.safetensors"
        os.utime(file, ns=(1, 1))
        changed = Rounding()
        run(checkpoint, cache, changed)
        assert changed.visited[0].startswith("model.layers.0.")
    assert len(list(cache.iterdir())) == 5


def test_a_failure_while_saving_leaves_the_state_before(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = stop(checkpoint, tmp_path / "cache", layer=1)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    replace = os.replace

    def fail(source: Any, target: Any) -> None:
        if Path(target).name == "state.json":
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        run(checkpoint, tmp_path / "cache", Rounding())
    monkeypatch.undo()
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert all(after[name] == content for name, content in before.items())
    assert not [name for name in after if name.startswith(".")], "temporary files are gone"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        visitor = Rounding()
        run(checkpoint, tmp_path / "cache", visitor)
    assert visitor.visited[0].startswith("model.layers.1.")
