"""The few engine calls that a measurement makes. Only workers import this: it loads the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mindir_llm.runtime import LLM, Graph, machine

__all__ = ["Engine", "machine_speed", "parameters"]


class Engine:
    """A bundle opened with one session; only its first slot is used.

    threads: None takes one per physical core. exact: float activations. resources: max_memory, cores and
    priority. Errors as from LLM.
    """

    def __init__(self, bundle: str, threads: int | None, exact: bool, resources: dict[str, Any]) -> None:
        self._llm = LLM(bundle, threads, exact=exact, **resources)
        self.memory_text = self._llm.memory_text
        # Below the token loop: a sampler and a tokenizer would be measured too.
        self._session: Any = self._llm._model.new_session()
        self.info = self._llm.info
        self.manifest = self._llm.manifest

    def feed(self, ids: Sequence[int]) -> None:
        """Append tokens and compute the logits that follow them."""
        self._session.feed([(0, ids)])
        self._session.logits(0)

    def rewind(self, position: int) -> None:
        self._session.rewind(0, position)

    def start_profile(self) -> None:
        """Measure operators from now on."""
        self._session.profile(True)

    def profile_report(self) -> dict[str, list[dict[str, Any]]]:
        """{"prefill" and "decode": [{"operator", "name", "calls", "seconds"}]} since start_profile."""
        report: dict[str, list[dict[str, Any]]] = self._session.profile_report()
        return report


def machine_speed(threads: int) -> dict[str, float]:
    """read_bandwidth in bytes/s, int8_macs and matrix_macs in multiply-accumulates/s (the latter 0.0 without
    a matrix unit)."""
    return asdict(machine.measure(threads))


def parameters(bundle: str, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Name, dtype, dims and nbytes of every weight of the decode graph."""
    with Graph(Path(bundle) / manifest["graphs"]["decode"], threads=1) as graph:
        described: list[dict[str, Any]] = graph.describe()["parameters"]
    return described
