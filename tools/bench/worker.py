"""A measurement in a process of its own: one JSON request on stdin, JSON lines on stdout.

Lines are {"progress": n} (n units done since the last one), then {"result": …} or {"error": "one line"}.
A process of its own because peak memory and load time mean nothing in one that has done other work.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mindir_llm.runtime.errors import MindirLLMError
from mindir_llm.tools.bench.engine import Engine, machine_speed, parameters
from mindir_llm.tools.bench.errors import BenchError

Request = dict[str, Any]

# Decode steps between two probes of the machine, each a third of a second: as long as 16 small steps.
DECODE_PIECE = 16


def ids(start: int, count: int, vocab_size: int) -> list[int]:
    """Arbitrary token ids for positions start … start + count - 1."""
    return [(7919 * position + 13) % vocab_size for position in range(start, start + count)]


def describe(request: Request) -> dict[str, Any]:
    """Facts of the bundle that every other step and the report need."""
    engine = _open(request)
    info = engine.info
    return {
        "manifest": engine.manifest,
        "parameters": parameters(request["bundle"], engine.manifest),
        "max_seq_len": info.max_seq_len,
        "prefill_chunk": info.prefill_chunk,
        "threads": info.threads,
        "memory": engine.memory_text,
        "weight_bytes": info.weight_bytes,
        "kv_cache_bytes": info.kv_cache_bytes,
    }


def speed(request: Request) -> dict[str, Any]:
    """Seconds of every repetition of every piece of work; rounds outermost, so that drift hits all alike.

    Beside each is what the machine could have done meanwhile: `peak_macs`, multiply-accumulates/s, of a
    prompt, `readable_bytes` of decode steps.
    """
    engine = _open(request)
    vocab, steps = engine.info.vocab_size, request["decode_steps"]
    prefill: list[dict[str, Any]] = [
        {"tokens": tokens, "seconds": [], "peak_macs": []} for tokens in request["prefill"]
    ]
    decode: list[dict[str, Any]] = [
        {"context": context, "step_seconds": [], "readable_bytes": []} for context in request["contexts"]
    ]
    first: list[float] = []
    warm_up = min(32, engine.info.max_seq_len - 4)
    engine.feed(ids(0, warm_up, vocab))
    for step in range(4):
        engine.feed(ids(warm_up + step, 1, vocab))
    probe = Probe(lambda: machine_speed(request["threads"]))
    for _ in range(request["repeat"]):
        for one in prefill:
            _warm(engine, 0)
            prompt = ids(0, one["tokens"], vocab)
            one["seconds"].append(_seconds(lambda prompt=prompt: engine.feed(prompt)))  # type: ignore[misc]
            one["peak_macs"].append(probe.around(lambda m: max(m["int8_macs"], m["matrix_macs"])))
            _progress(one["tokens"])
        _warm(engine, 0)
        first.append(_seconds(lambda: engine.feed(ids(0, 1, vocab))))
        position = 1
        for one in sorted(decode, key=lambda one: int(one["context"])):
            context = one["context"]
            engine.feed(ids(position, context - position, vocab))
            _progress(context - position)
            position = context
            probe.refresh()
            seconds: list[float] = []
            readable = 0.0
            for piece in range(0, steps, DECODE_PIECE):
                _warm(engine, context + piece)
                times = []
                for step in range(piece, min(piece + DECODE_PIECE, steps)):
                    token = ids(context + step, 1, vocab)
                    times.append(_seconds(lambda token=token: engine.feed(token)))  # type: ignore[misc]
                seconds += times
                readable += sum(times) * probe.around(lambda m: m["read_bandwidth"])
            one["step_seconds"].append(seconds)
            one["readable_bytes"].append(readable)
            engine.rewind(position)
            _progress(steps)
    return {"prefill": prefill, "decode": decode, "first_token": first, "machine": probe.all}


class Probe:
    """What the machine can do, measured between pieces of work.

    A machine that others share, or one that grows warm, changes its speed within seconds: a share of it means
    something only of what was measured right before and right after the work.
    """

    def __init__(self, measure: Callable[[], dict[str, float]]) -> None:
        self._measure = measure
        self.all = [measure()]

    def refresh(self) -> None:
        """Measure ahead of a piece of work, where something else was done since the last one."""
        self.all.append(self._measure())

    def around(self, number: Callable[[dict[str, float]], float]) -> float:
        """Measure once more, behind a piece of work: the mean of its two sides."""
        self.refresh()
        return (number(self.all[-2]) + number(self.all[-1])) / 2


def _warm(engine: Engine, position: int) -> None:
    """One step that does not count, then back: the probe has emptied the caches, which is not the work's."""
    engine.rewind(position)
    engine.feed(ids(position, 1, engine.info.vocab_size))
    engine.rewind(position)


def load(request: Request) -> dict[str, Any]:
    """Seconds from nothing but imported modules to a session that can be fed."""
    return {"seconds": _seconds(lambda: _open(request))}


def memory(request: Request) -> dict[str, Any]:
    """Peak resident bytes, before the bundle is opened and after it has worked."""
    before = peak_rss()
    engine = _open(request)
    opened = peak_rss()
    vocab, tokens = engine.info.vocab_size, request["tokens"]
    engine.feed(ids(0, tokens, vocab))
    for step in range(request["decode_steps"]):
        engine.feed(ids(tokens + step, 1, vocab))
    return {"before_open": before, "after_open": opened, "peak": peak_rss()}


def profile(request: Request) -> dict[str, Any]:
    """The engine's own account of where time goes."""
    engine = _open(request)
    vocab, tokens = engine.info.vocab_size, request["tokens"]
    engine.feed(ids(0, tokens, vocab))
    engine.rewind(0)
    engine.start_profile()
    engine.feed(ids(0, tokens, vocab))
    for step in range(request["decode_steps"]):
        engine.feed(ids(tokens + step, 1, vocab))
    return engine.profile_report()


def peak_rss() -> int | None:
    """Peak resident bytes of this process so far; None where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    return int(fields["VmHWM"].split()[0]) * 1024 if "VmHWM" in fields else None


STEPS: dict[str, Callable[[Request], dict[str, Any]]] = {
    "describe": describe,
    "speed": speed,
    "load": load,
    "memory": memory,
    "profile": profile,
}


def _open(request: Request) -> Engine:
    return Engine(request["bundle"], request["threads"], request["exact"], request.get("resources") or {})


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _progress(units: int) -> None:
    if units:
        _write({"progress": units})


def _write(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> int:
    request = json.load(sys.stdin)
    try:
        result = STEPS[request["step"]](request)
    except (MindirLLMError, BenchError, OSError) as error:
        _write({"error": " ".join(str(error).splitlines())})
        return 1
    _write({"result": result})
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    # Freeing gigabytes page by page is not part of any measurement.
    os._exit(code)
