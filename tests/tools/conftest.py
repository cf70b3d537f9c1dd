"""Bundles for the tests of the tools: a tiny random network, and stories260K where its data is at hand."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

os.environ.setdefault("GLOG_v", "3")  # before MindSpore is imported for the first time

# The maker of tiny checkpoints lives with the tests of the exporter.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "export"))

from tiny_checkpoint import kv_scales, random_tensors, tiny_config, write_checkpoint

from mindir_llm.export import ExportOptions, export_bundle

BundleMaker = Callable[..., tuple[Path, Path]]


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> BundleMaker:
    """tiny_bundle(config={...}, **export options) -> (checkpoint, bundle)."""

    def make(config: dict[str, object] | None = None, **options: object) -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("tiny")
        fields = tiny_config(**(config or {}))
        tensors = random_tensors(fields)
        if fields.get("attention_bias"):
            rng = np.random.default_rng(1)
            for name, value in tensors.items():
                if name.endswith(".bias"):
                    tensors[name] = rng.standard_normal(value.shape).astype(np.float32)
        checkpoint = write_checkpoint(folder / "checkpoint", fields, tensors)
        scales = None
        if options.get("kv_granularity") == "per_channel":  # wide enough that nothing saturates
            scales = {name: 3 * scale for name, scale in kv_scales(fields).items()}
        bundle = export_bundle(checkpoint, folder / "bundle", ExportOptions(**options), kv_scales=scales)  # type: ignore[arg-type]
        return checkpoint, bundle

    return make


@pytest.fixture(scope="session")
def stories(shared_data: Path) -> Path:
    """The Hugging Face folder of stories260K."""
    return shared_data / "models" / "stories260K" / "hf"


@pytest.fixture(scope="session")
def stories_bundle(
    stories: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str, str], Path]:
    """stories_bundle(target, quant, dtype) -> bundle, exported once per session."""
    made: dict[tuple[str, str, str], Path] = {}

    def make(target: str, quant: str, dtype: str) -> Path:
        key = (target, quant, dtype)
        if key not in made:
            folder = tmp_path_factory.mktemp("stories") / "bundle"
            made[key] = export_bundle(stories, folder, ExportOptions(target=target, quant=quant, dtype=dtype))
        return made[key]

    return make
