"""The cost of structured output is measured for every grammar."""

from __future__ import annotations

from pathlib import Path

import pytest

from mindir_llm.tools.bench.grammar import main

DEMO = Path(__file__).parents[2] / "tools" / "demo_model" / "checkpoint"


def test_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(DEMO)]) == 0
    header, columns, *rows = capsys.readouterr().out.splitlines()
    assert header.startswith(f"{DEMO}: ") and "tokens, sorted in" in header
    assert columns.split() == ["milliseconds", "tokens", "compiling", "first", "slowest", "again"]
    assert len(rows) == 7
    for row in rows:
        tokens, compiling, first, slowest, again = map(float, row.split()[-5:])
        assert tokens > 50 and compiling > 0 and slowest >= first > 0 and again > 0
