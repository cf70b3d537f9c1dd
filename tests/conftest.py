"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Drawn examples are the same in every run and everywhere: what fails in CI fails at home.
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with models, tokenizers and texts that exists only where this project is developed."""
    override = os.environ.get("MINDIR_LLM_SHARED_DATA")
    folder = Path(override) if override else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: development data; set MINDIR_LLM_SHARED_DATA to where it lies")
    return folder


@pytest.fixture(scope="session")
def build_folder() -> Path:
    """The CMake build of this checkout; MINDIR_LLM_BUILD names another one."""
    folder = Path(os.environ.get("MINDIR_LLM_BUILD") or Path(__file__).resolve().parents[1] / "build" / "cpp")
    if not (folder / "runtime" / "engine" / "libmindir_llm.so").exists():
        pytest.skip(f"{folder}: no build of the engine there: make test-cpp makes it")
    return folder


@pytest.fixture(scope="session")
def executable(build_folder: Path) -> Path:
    """The native `mindir-llm`."""
    return build_folder / "runtime" / "engine" / "mindir-llm"
