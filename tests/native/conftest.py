"""What CMake built: the libraries, the executable, and an installed tree of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def build_folder() -> Path:
    """The CMake build of this checkout; MINDIR_LLM_BUILD names another one."""
    folder = Path(os.environ.get("MINDIR_LLM_BUILD") or ROOT / "build" / "cpp")
    if not (folder / "runtime" / "engine" / "libmindir_llm.so").exists():
        pytest.skip(f"{folder}: no build of the engine there: make test-cpp makes it")
    return folder


@pytest.fixture(scope="session")
def installed(build_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cmake --install` of that build."""
    prefix = tmp_path_factory.mktemp("installed")
    cmake = Path(sys.executable).with_name("cmake")
    command = [str(cmake) if cmake.exists() else "cmake", "--install", str(build_folder)]
    subprocess.run([*command, "--prefix", str(prefix)], check=True, capture_output=True)
    return prefix
