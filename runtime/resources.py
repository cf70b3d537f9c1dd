"""What a bundle may take of the machine: memory, cores, priority. Options in, checked values out."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from typing import Literal

from .errors import InvalidArgumentError

__all__ = ["Priority", "Progress", "Resources", "parse_size"]

Priority = Literal["low", "normal", "high"]
PRIORITIES = ("low", "normal", "high")
_SIZE = re.compile(r"([0-9.]+)(?:([KMG])(i?))?B?", re.IGNORECASE)


def parse_size(size: int | str) -> int:
    """Bytes of "512M" or "1.5Gi": K, M and G are powers of 1000, as in all sizes that are printed here; Ki,
    Mi and Gi of 1024."""
    number: float = 0
    if isinstance(size, str):
        found = _SIZE.fullmatch(size)
        if found and (not found[3] or found[3] == "i"):
            try:
                number = float(found[1]) * (1024 if found[3] else 1000) ** " KMG".index(
                    (found[2] or " ").upper()
                )
            except ValueError:
                number = 0
    elif isinstance(size, int) and not isinstance(size, bool):
        number = size
    if not 1 <= number < 2**63:
        raise InvalidArgumentError(
            f"max_memory is {size!r}, expected bytes such as 512M or 1.5Gi, at least 1 "
            "(K, M, G: powers of 1000; Ki, Mi, Gi: of 1024)"
        )
    return int(number)


@dataclass(frozen=True)
class Resources:
    """max_memory: bytes, or a size such as "512M"; None for no limit. cores: processors such as "0-3,6"; None
    for those that the process may use. priority: how eagerly the system gives it one. progress: show on a
    terminal how far the loading is."""

    max_memory: int | str | None = None
    cores: str | None = None
    priority: Priority = "normal"
    progress: bool = False

    def __post_init__(self) -> None:
        if self.max_memory is not None:
            parse_size(self.max_memory)
        if self.cores is not None and not isinstance(self.cores, str):
            raise InvalidArgumentError(f"cores is {self.cores!r}, expected a string such as '0-3,6'")
        if self.priority not in PRIORITIES:
            raise InvalidArgumentError(
                f"priority is {self.priority!r}, expected one of {', '.join(PRIORITIES)}"
            )

    @property
    def bytes(self) -> int:
        """0: no limit."""
        return 0 if self.max_memory is None else parse_size(self.max_memory)


class Progress:
    """How far the loading is, for somebody who waits at a terminal for more than two seconds."""

    PATIENCE = 2.0

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._shown: int | None = None

    def update(self, done: int, total: int) -> None:
        """Called every few megabytes."""
        if total == 0 or time.monotonic() - self._start < self.PATIENCE:
            return
        percent = done * 100 // total
        if percent != self._shown:
            self._shown = percent
            sys.stderr.write(f"\rloading the weights: {percent} %")
            sys.stderr.flush()

    def end(self) -> None:
        """Leave no trace."""
        if self._shown is not None:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
