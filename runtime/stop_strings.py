"""Find stop strings in a text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """`push` text, get back what is certain to precede any stop string.

    Once one is found, `found` names it, the text before it has been returned, and the rest is dropped. Of
    several matches the one that starts first counts; at the same place, the one that is named first.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def push(self, text: str, may_stop: bool = True) -> str:
        """may_stop=False: a match that ends within this piece does not count."""
        if self.found is not None:
            return ""
        if not self._stops:
            return text
        start_of_new = len(self._held)
        self._held += text
        if may_stop:
            # Earlier text was searched already: a match must end in the new piece.
            hits = [
                (at, order)
                for order, stop in enumerate(self._stops)
                if (at := self._held.find(stop, max(0, start_of_new - len(stop) + 1))) >= 0
            ]
            if hits:
                at, order = min(hits)
                self.found = self._stops[order]
                released, self._held = self._held[:at], ""
                return released
        keep = self._possible_start()
        released, self._held = self._held[:keep], self._held[keep:]
        return released

    def flush(self) -> str:
        """No more text comes: what was held back is not a stop string after all."""
        released, self._held = self._held, ""
        return released

    def _possible_start(self) -> int:
        """Where the longest ending of the held text begins that is the beginning of a stop string."""
        longest = max(map(len, self._stops)) - 1
        for start in range(max(0, len(self._held) - longest), len(self._held)):
            tail = self._held[start:]
            if any(len(tail) < len(stop) and stop.startswith(tail) for stop in self._stops):
                return start
        return len(self._held)
