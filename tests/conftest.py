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
