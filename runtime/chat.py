"""The terminal side of `mindir-llm chat`: lines in, commands, answers out as they come."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from .conversation import Conversation
from .errors import InvalidArgumentError, MindirLLMError

HELP = '''/help            this list
/reset           start anew; the system message stays
/system TEXT     change the system message; without TEXT there is none
/save FILE       write the conversation to a file
/load FILE       go on with a saved conversation
/exit            leave (so does Ctrl-D)
A line that ends with \\ goes on in the next one; """ begins and ends a text of several lines.
Ctrl-C stops an answer. A blank in front of / sends the line as text.
'''


class Terminal:
    """Where lines come from and answers go to. Someone at a terminal gets prompts, and errors do not end the
    conversation; with a pipe it is one turn a line, and the first error ends it."""

    def __init__(self, stdin: TextIO, out: Any, notes: TextIO) -> None:
        self.is_interactive = stdin.isatty()
        self._stdin, self._out, self._notes = stdin, out, notes
        if self.is_interactive:
            with suppress(ImportError):  # not everywhere
                import readline  # noqa: F401  (line editing and history of input())

    def turns(self) -> Iterator[str]:
        """What the user says, turn by turn, several lines put together."""
        while True:
            line = self._line("> ")
            if line is None:
                return
            parts = []
            if line.lstrip().startswith('"""'):
                line = line.lstrip()[3:]
                while line is not None and not line.rstrip().endswith('"""'):
                    parts.append(line)
                    line = self._line(". ")
                parts += [] if line is None else [line.rstrip().removesuffix('"""')]
                yield "\n".join(parts).strip("\n")
                continue
            while line is not None and line.endswith("\\"):
                parts.append(line[:-1])
                line = self._line(". ")
            yield "\n".join(parts if line is None else [*parts, line])

    def write(self, text: str) -> None:
        """Part of an answer. Bytes, because it is UTF-8 whatever the terminal's locale says."""
        self._out.write(text.encode())
        self._out.flush()

    def note(self, text: str) -> None:
        """What is no part of the conversation."""
        self._notes.write(text if text.endswith("\n") else text + "\n")
        self._notes.flush()

    def _line(self, prompt: str) -> str | None:
        """None at the end of the input."""
        if not self.is_interactive:
            raw = self._stdin.buffer.readline()
            if not raw:
                return None
            try:
                text: str = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InvalidArgumentError(
                    f"stdin: not valid UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start} of a line"
                ) from None
            return text.removesuffix("\n").removesuffix("\r")
        while True:
            try:
                return input(prompt)
            except EOFError:
                self.write("\n")
                return None
            except KeyboardInterrupt:  # gives the line up, not the program
                self.write("\n")
                if prompt == "> ":
                    self.note("(Ctrl-D or /exit leaves)")
                else:
                    return None


def run(terminal: Terminal, conversation: Conversation, with_stats: bool) -> None:
    """Talk until the user leaves."""
    for text in terminal.turns():
        if not text.strip():
            continue
        try:
            if text.startswith("/"):
                if not _command(terminal, conversation, text):
                    return
            else:
                _answer(terminal, conversation, text.strip(" "), with_stats)
        except (MindirLLMError, OSError, ValueError) as error:
            if not terminal.is_interactive:
                raise
            terminal.note(f"error: {error}")


def _answer(terminal: Terminal, conversation: Conversation, text: str, with_stats: bool) -> None:
    dropped = conversation.dropped
    last = ""
    with _interrupts() as is_interrupted:
        pieces = conversation.ask(text)
        for piece in pieces:
            last = piece
            terminal.write(piece)
            if is_interrupted():
                pieces.close()  # type: ignore[attr-defined]
                break
    if not last.endswith("\n"):
        terminal.write("\n")
    if conversation.dropped > dropped:
        terminal.note("(the oldest turns no longer fit the context and were dropped)")
    if conversation.is_full():
        terminal.note(
            "(the context is full: /reset starts anew, --context-full drop forgets the oldest turns)"
        )
    if with_stats and conversation.output is not None:
        terminal.note(conversation.output.metrics.line())


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """While this lasts, Ctrl-C only sets a flag: the engine ends its step, and the KV cache stays of use. A
    second one, where nothing comes that could be stopped, is the usual KeyboardInterrupt."""
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        if seen:
            raise KeyboardInterrupt
        seen.append(number)

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)


def _command(terminal: Terminal, conversation: Conversation, text: str) -> bool:
    """Whether to go on."""
    name, _, argument = text.strip().partition(" ")
    argument = argument.strip()
    if name in ("/save", "/load") and not argument:
        raise InvalidArgumentError(f"{name} needs a file name")
    if name == "/exit":
        return False
    if name == "/help":
        terminal.note(HELP)
    elif name == "/reset":
        conversation.reset()
    elif name == "/system":
        conversation.set_system(argument)
    elif name == "/save":
        conversation.save(argument)
        terminal.note(f"({len(conversation.messages)} messages written to {argument})")
    elif name == "/load":
        conversation.load(argument)
        terminal.note(f"({len(conversation.messages)} messages read from {argument})")
    else:
        raise InvalidArgumentError(f"unknown command {name}; /help lists them")
    return True


def at(stdin: TextIO | None = None) -> Terminal:
    """The process's own terminal."""
    return Terminal(stdin or sys.stdin, sys.stdout.buffer, sys.stderr)
