"""Sets engines up and measures them in turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mindir_llm.tools.compare_peers.errors import CompareError
from mindir_llm.tools.compare_peers.peers import Peer, Variant
from mindir_llm.tools.compare_peers.site import Site, folder_bytes, run_json

__all__ = ["Entry", "Lengths", "measure_rounds", "prepare"]

# One process of one engine: a load, two prompts, three pieces of decoding; minutes at most.
_TIMEOUT_SECONDS = 1800.0


@dataclass(frozen=True)
class Lengths:
    """Tokens: prompt of the prefill, context before the two decode measurements, steps of each, and the cache
    that is asked for where an engine lets one ask."""

    prompt: int = 512
    short_context: int = 16
    long_context: int = 1024
    decode_steps: int = 64
    max_seq_len: int = 2048


@dataclass
class Entry:
    """An engine with one kind of weights. reason: why it is not measured; None as long as it is.

    rounds: one result of the worker per round, in order.
    """

    peer: Peer
    variant: Variant
    model: Path | None = None
    file_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.peer.name} {self.variant.name}"


def prepare(peers: Sequence[Peer], site: Site, shape: str, checkpoint: Path) -> list[Entry]:
    """Install every engine and convert the checkpoint for it, one after the other; whatever is there already
    is kept. An engine that cannot be set up becomes an entry with a reason."""
    entries = []
    for peer in peers:
        own = [Entry(peer, variant) for variant in peer.variants]
        entries += own
        try:
            peer.setup(site)
            facts = peer.facts(site)
        except CompareError as error:
            for entry in own:
                entry.reason = str(error)
            continue
        for entry in own:
            entry.facts = facts
            try:
                folder = peer.convert(site, shape, checkpoint, entry.variant)
            except CompareError as error:
                entry.reason = str(error)
                continue
            entry.model = peer.model(folder)
            entry.file_bytes = folder_bytes(folder)
    return entries


Measure = Callable[[Entry], dict[str, Any]]


def worker_measure(site: Site, lengths: Lengths, vocab_size: int) -> Measure:
    """Measures an entry in a fresh process; CompareError: why not."""

    def measure(entry: Entry) -> dict[str, Any]:
        request = {
            "model": str(entry.model),
            "threads": site.threads,
            "max_seq_len": lengths.max_seq_len,
            "vocab_size": vocab_size,
            "prompt": lengths.prompt,
            "short_context": lengths.short_context,
            "long_context": lengths.long_context,
            "decode_steps": lengths.decode_steps,
        }
        variables = entry.peer.variables(site)
        answer = run_json(entry.peer.command(site), request, variables, _TIMEOUT_SECONDS)
        if "error" in answer:
            raise CompareError(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    return measure


def measure_rounds(
    entries: Sequence[Entry],
    rounds: int,
    measure: Measure,
    progress: Callable[[str], None] = lambda _: None,
    after_round: Callable[[list[float]], None] = lambda _: None,
) -> list[float]:
    """Measure every entry once a round, one at a time, each round starting with the next one: what the
    machine's own drift does to one engine, it does to all.

    An entry that fails once is not measured again and gets the reason; its rounds are dropped, so that all
    medians are over the same rounds. progress: is told the entry's name when its turn is over. after_round:
    may save what there is. Both it and the result are the machine's load averages before each round.
    """
    loads = []
    for number in range(rounds):
        loads.append(os.getloadavg()[0])
        first = number % max(len(entries), 1)
        for entry in [*entries[first:], *entries[:first]]:
            if entry.reason is None:
                try:
                    entry.rounds.append(measure(entry))
                except CompareError as error:
                    entry.reason = f"round {number + 1}: {error}"
                    entry.rounds.clear()
            progress(entry.name)
        after_round(loads)
    return loads
