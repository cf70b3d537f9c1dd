"""Set-up for tests that export."""

import os

import pytest

# MindSpore reads its log level when it is imported for the first time.
os.environ.setdefault("GLOG_v", "3")


def pytest_configure(config: pytest.Config) -> None:
    # Most checkpoints here have no text to tokenize.
    config.addinivalue_line("filterwarnings", "ignore:.*no tokenizer.model:UserWarning")
