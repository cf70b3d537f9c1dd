"""The native executable's `chat` holds Python's conversation: same lines in, same text and notes out."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from processes import read_to_the_end, start_interruptible

from mindir_llm.runtime import cli

DEMO = Path(__file__).parents[2] / "tools" / "demo_model" / "checkpoint"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content | trim }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TALK = 'Tell a story\nOnce upon a time\nthere was a \\\ngirl\n"""a text\nof two lines"""\n\n /not a command\n'


@pytest.fixture
def bundle(exported: Callable[..., Path]) -> Path:
    return exported(DEMO, dtype="float32", max_seq_len=256, prefill_chunk=8)


@pytest.fixture
def template(tmp_path: Path) -> Path:
    (tmp_path / "template").write_text(TEMPLATE)
    return tmp_path / "template"


class Pipe:
    """What a test types, as bytes."""

    def __init__(self, typed: bytes) -> None:
        import io

        self.buffer = io.BytesIO(typed)

    def isatty(self) -> bool:
        return False


def both(
    executable: Path, words: list[str], typed: str, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> tuple[int, str, str]:
    """What both programs do, which must be the same but for measured times."""
    native = subprocess.run([executable, *words], input=typed.encode(), capture_output=True, timeout=60)
    monkeypatch.setattr("sys.stdin", Pipe(typed.encode()))
    capfdbinary.readouterr()
    code = cli.main(words)
    captured = capfdbinary.readouterr()
    found, expected = (
        (status, out.decode(), re.sub(r"[\d.]+ tokens/s", "# tokens/s", err.decode()))
        for status, out, err in [
            (native.returncode, native.stdout, native.stderr),
            (code, captured.out, captured.err),
        ]
    )
    assert found == expected
    return found


@pytest.mark.parametrize(
    "extra",
    [
        ["--temperature", "0", "--max-tokens", "20", "--stats"],
        ["--seed", "3", "--system", "Be kind", "--max-tokens", "30", "--stop", ".", "--stats"],
        ["--seed", "5", "--context-full", "drop", "--max-tokens", "60", "--ignore-eos"],
    ],
)
def test_conversations_are_pythons(
    extra: list[str],
    executable: Path,
    bundle: Path,
    template: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
) -> None:
    saved = tmp_path / "saved.json"
    kept = []
    words = ["chat", str(bundle), "--chat-template", str(template), *extra]
    typed = f"{TALK}/save {saved}\n/reset\nHello\n/system Be brief\n/load {saved}\n"
    typed += "And then?\n/help\n/exit\nnever\n"
    code, out, notes = both(executable, words, typed, monkeypatch, capfdbinary)
    assert code == 0 and out.count("\n") >= 7 and "messages written to" in notes
    if "drop" in extra:
        assert "the oldest turns no longer fit" in notes
    if "--stats" in extra:
        assert " from the cache, " in notes
    # What it saves is what Python saves, byte for byte.
    for run in (lambda w: subprocess.run([executable, *w], input=typed.encode(), check=True), None):
        saved.unlink()
        if run is None:
            monkeypatch.setattr("sys.stdin", Pipe(typed.encode()))
            cli.main(words)
        else:
            run(words)
        kept.append(saved.read_bytes())
    assert kept[0] == kept[1]


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("/frobnicate\n", "unknown command /frobnicate; /help lists them"),
        ("/save\n", "/save needs a file name"),
        ("/load /nowhere\n", "/nowhere: No such file or directory"),
        ("word " * 300 + "\n", "tokens and the bundle's context holds 256: start anew"),
    ],
)
def test_errors_end_a_pipe(
    typed: str,
    message: str,
    executable: Path,
    bundle: Path,
    template: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: Any,
) -> None:
    words = ["chat", str(bundle), "--chat-template", str(template), "--temperature", "0", "--max-tokens", "5"]
    code, _, notes = both(executable, words, f"Hello\n{typed}Hello\n", monkeypatch, capfdbinary)
    assert code == 2 and notes.startswith("mindir-llm: error: ") and message in notes


def test_errors_before_the_first_line(
    executable: Path, bundle: Path, template: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    code, _, notes = both(executable, ["chat", str(bundle)], "Hello\n", monkeypatch, capfdbinary)
    assert code == 2 and "has no chat template; give one with --chat-template FILE" in notes
    template.write_text("{{ raise_exception('no ' + messages[0].role) }}")
    words = ["chat", str(bundle), "--chat-template", str(template)]
    code, _, notes = both(executable, words, "Hello\n", monkeypatch, capfdbinary)
    assert code == 2 and "line 1: no user" in notes
    native = subprocess.run([executable, *words], input=b"ab\xffc\n", capture_output=True)
    assert native.returncode == 2 and b"stdin: not valid UTF-8: byte 0xff at offset 2" in native.stderr


def test_loaded_conversations_keep_what_they_hold(
    executable: Path, bundle: Path, template: Path, tmp_path: Path
) -> None:
    """Any JSON that a template may read: tool calls, numbers, lists."""
    messages = [
        {"role": "user", "content": 'quotes " and \\ and é 你 \t\n\x01'},
        {"role": "assistant", "content": None, "tool_calls": [{"id": 1, "x": 0.5, "big": 1e300, "no": []}]},
        {"role": "tool", "content": [], "empty": {}, "yes": True},
    ]
    (tmp_path / "in").write_text(json.dumps(messages))
    typed = f"/load {tmp_path / 'in'}\n/save {tmp_path / 'out'}\n"
    command = [executable, "chat", str(bundle), "--chat-template", str(template)]
    subprocess.run(command, input=typed.encode(), check=True, capture_output=True)
    assert json.loads((tmp_path / "out").read_text()) == messages
    for wrong in ("[1]", '[{"role": "user"}]', "{", '[{"role": 1, "content": ""}]'):
        (tmp_path / "in").write_text(wrong)
        found = subprocess.run(command, input=typed.encode(), capture_output=True)
        assert found.returncode == 2 and b"not a saved conversation" in found.stderr


def test_at_a_terminal(executable: Path, bundle: Path, template: Path) -> None:
    """Prompts, errors that do not end it, Ctrl-C while typing and while it answers."""
    command = [
        executable,
        "chat",
        bundle,
        "--chat-template",
        template,
        "--ignore-eos",
        "--max-tokens",
        "none",
    ]
    ours, theirs = pty.openpty()
    running = start_interruptible(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    shown = b""

    def wait_for(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(ours, 4096)
        shown = shown[shown.index(text) + len(text) :]

    wait_for(b"> ")
    os.write(ours, b"/nonsense\n")
    wait_for(b"error: unknown command /nonsense")
    wait_for(b"> ")
    running.send_signal(signal.SIGINT)
    wait_for(b"(Ctrl-D or /exit leaves)")
    wait_for(b"> ")
    os.write(ours, b"Once upon a time\n")
    wait_for(b"Once upon a time\r\n")
    running.send_signal(signal.SIGINT)  # before, in or after the answer: the program goes on
    wait_for(b"> ")
    os.write(ours, b"\x04")
    read_to_the_end(ours)
    assert running.wait(timeout=60) == 0
