"""An installed tree of what CMake built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def installed(build_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cmake --install` of that build."""
    prefix = tmp_path_factory.mktemp("installed")
    cmake = Path(sys.executable).with_name("cmake")
    command = [str(cmake) if cmake.exists() else "cmake", "--install", str(build_folder)]
    subprocess.run([*command, "--prefix", str(prefix)], check=True, capture_output=True)
    return prefix
