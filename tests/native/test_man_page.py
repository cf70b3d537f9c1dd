"""The manual page against the executable that it describes."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "runtime" / "engine" / "cli" / "mindir-llm.1"


def help_text(executable: Path, *command: str) -> str:
    done = subprocess.run([executable, *command, "--help"], check=True, capture_output=True, text=True)
    return done.stdout


def test_the_page_names_commands_and_options_that_there_are(executable: Path) -> None:
    page = PAGE.read_text().replace("\\-", "-")
    general = help_text(executable)
    commands = re.findall(r"^  (\w+) +\w", general.partition("\ncommands:\n")[2], re.M)
    assert len(commands) > 3
    for command in commands:
        assert f"\n.B mindir-llm {command}\n" in page and f"\n.TP\n.B {command}\n" in page
    options = set(re.findall(r"--[a-z][a-z-]+", page))
    known = set(re.findall(r"--[a-z][a-z-]+", general + "".join(help_text(executable, c) for c in commands)))
    assert len(options) > 8 and options <= known


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_the_page_is_well_formed() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", PAGE], check=True, capture_output=True, text=True
    )
    assert done.stderr == ""


def test_the_page_is_installed(installed: Path) -> None:
    (page,) = installed.glob("share/man/man1/mindir-llm.1")
    assert page.read_bytes() == PAGE.read_bytes()
