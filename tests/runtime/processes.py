"""Commands as a user's shell or terminal runs them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["interrupt_before_the_prompt", "read_to_the_end", "start_interruptible"]


def start_interruptible(command: Sequence[str | Path], **streams: Any) -> subprocess.Popen[bytes]:
    """A process that Ctrl-C reaches: what a shell starts in the background is told to ignore it, and hands
    that down."""
    return subprocess.Popen(
        [str(word) for word in command],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        **streams,
    )


def interrupt_before_the_prompt(command: Sequence[str | Path], folder: Path) -> tuple[int, bytes]:
    """Exit code and stderr of `command run` after a Ctrl-C while it waits for its prompt file."""
    os.mkfifo(folder / "prompt")
    running = start_interruptible(
        [*command, "run", "x", "--prompt-file", folder / "prompt"], stderr=subprocess.PIPE
    )
    with open(folder / "prompt", "wb"):  # returns when the command has opened the other end
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    return running.returncode, said


def read_to_the_end(terminal: int) -> bytes:
    """What is still to be read from a pseudo-terminal, which is closed then."""
    shown = b""
    try:
        while piece := os.read(terminal, 4096):
            shown += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(terminal)
    return shown
