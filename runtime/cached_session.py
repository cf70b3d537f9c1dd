"""A session that remembers what its slots hold, so that a prompt which begins alike is not computed again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .backend import Logits, Session
from .errors import BundleError


class CachedSession:
    """reuse: False computes every prompt from its beginning."""

    def __init__(self, session: Session, slots: int, reuse: bool = True) -> None:
        self._session, self._reuse = session, reuse
        self._held: list[list[int]] = [[] for _ in range(slots)]

    def common(self, slot: int, ids: Sequence[int]) -> int:
        """How many of a prompt's first tokens the slot holds. At least one is left to compute: its logits are
        what the continuation starts from."""
        if not self._reuse:
            return 0
        held = self._held[slot]
        limit = min(len(held), len(ids) - 1)
        return next((at for at in range(limit) if held[at] != ids[at]), limit)

    def best(self, ids: Sequence[int]) -> int:
        """The most tokens that any slot holds of a prompt."""
        return max(self.common(slot, ids) for slot in range(len(self._held)))

    def choose(self, ids: Sequence[int], free: Iterable[int]) -> int:
        """The free slot that holds most of a prompt; among equals the one that loses least."""
        return min(free, key=lambda slot: (-self.common(slot, ids), len(self._held[slot]), slot))

    def begin(self, slot: int, ids: Sequence[int], keep: bool = True) -> list[int]:
        """Make the slot hold a beginning of the prompt only, nothing of it without `keep`; returns the tokens
        that are missing."""
        kept = self.common(slot, ids) if keep else 0
        self._session.rewind(slot, kept)
        del self._held[slot][kept:]
        return list(ids[kept:])

    def save(self) -> list[tuple[list[int], bytes]]:
        """Tokens and cache of every slot."""
        return [(list(ids), self._session.save(slot)) for slot, ids in enumerate(self._held)]

    def restore(self, slots: Sequence[tuple[list[int], bytes]]) -> None:
        """The counterpart of `save`, into an empty session; what has no slot here is left out."""
        for slot, (ids, saved) in enumerate(slots[: len(self._held)]):
            self._session.restore(slot, saved)
            if (held := self._session.position(slot)) != len(ids):
                raise BundleError(f"damaged saved session: slot {slot} holds {held} tokens, not {len(ids)}")
            self._held[slot] = ids

    def feed(self, segments: Sequence[tuple[int, Sequence[int]]]) -> None:
        self._session.feed(segments)
        for slot, ids in segments:
            self._held[slot] += ids

    def logits(self, slot: int) -> Logits:
        return self._session.logits(slot)

    def close(self) -> None:
        self._session.close()
