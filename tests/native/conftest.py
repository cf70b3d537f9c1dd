"""An installed tree of what CMake built."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "tools" / "demo_model" / "checkpoint"


@pytest.fixture(scope="session")
def installed(build_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cmake --install` of that build."""
    prefix = tmp_path_factory.mktemp("installed")
    cmake = Path(sys.executable).with_name("cmake")
    command = [str(cmake) if cmake.exists() else "cmake", "--install", str(build_folder)]
    subprocess.run([*command, "--prefix", str(prefix)], check=True, capture_output=True)
    return prefix


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model, 128 tokens of context, one slot."""
    from mindir_llm.export import ExportOptions, export_bundle

    os.environ.setdefault("GLOG_v", "3")
    path = tmp_path_factory.mktemp("bundle") / "bundle"
    export_bundle(DEMO, path, ExportOptions(dtype="float32", max_seq_len=128, prefill_chunk=16))
    return path
