"""The token loop: keeps the slots of a session busy until every sequence is finished."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from .cached_session import CachedSession
from .sequence import Sequence


def run(session: CachedSession, slots: int, sequences: Iterable[Sequence]) -> Iterator[tuple[Sequence, str]]:
    """Continue each sequence to its end; yields (sequence, new text) after each of its tokens.

    A slot that becomes free takes the next sequence at once. What a sequence becomes does not depend on its
    neighbours: each has its own cache rows, sampler and random numbers. Of a prompt, only what the
    slot does not hold already from earlier ones is computed.
    """
    waiting = deque(sequences)
    active: dict[int, Sequence] = {}
    prompts: dict[int, list[int]] = {}  # what is still to be fed, by slot
    while waiting or active:
        free = {slot for slot in range(slots) if slot not in active}
        while free and waiting:
            sequence = waiting.popleft()
            slot = session.choose(sequence.prompt_ids, free)
            free.remove(slot)
            active[slot] = sequence
            prompts[slot] = session.begin(slot, sequence.prompt_ids, keep=not sequence.reads_token_by_token)
            sequence.start(cached_tokens=len(sequence.prompt_ids) - len(prompts[slot]))
        segments: list[tuple[int, list[int]]] = []
        for slot, sequence in sorted(active.items()):
            ids = prompts.pop(slot, None)
            if ids is None:
                ids = sequence.token_ids[-1:]
            elif sequence.reads_token_by_token and len(ids) > 1:
                prompts[slot] = ids[1:]
                ids = ids[:1]
            segments.append((slot, ids))
        session.feed(segments)
        for slot, sequence in sorted(active.items()):
            if slot in prompts:
                sequence.see_prompt(session.logits(slot))
                continue
            text = sequence.advance(session.logits(slot))
            if sequence.finish_reason is not None:
                del active[slot]
            yield sequence, text
