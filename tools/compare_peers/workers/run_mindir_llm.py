"""Worker: our engine, through the session that the token loop uses, with a greedy choice in numpy."""

from __future__ import annotations

import time
from typing import Any

import harness


class Engine:
    """One session of a bundle."""

    def __init__(self, model: str, threads: int, max_seq_len: int) -> None:
        from mindir_llm.runtime import LLM

        llm = LLM(model, threads)
        if llm.info.max_seq_len < max_seq_len:
            raise ValueError(f"the bundle's max_seq_len is {llm.info.max_seq_len}, not {max_seq_len}")
        self._llm = llm
        self._session: Any = llm._model.new_session()

    def prefill(self, ids: list[int]) -> float:
        self._session.rewind(0, 0)
        begin = time.perf_counter()
        self._session.feed([(0, ids)])
        int(self._session.logits(0).argmax())
        return time.perf_counter() - begin

    def decode(self, ids: list[int], steps: int) -> float:
        self.prefill(ids)
        token = int(self._session.logits(0).argmax())
        begin = time.perf_counter()
        for _ in range(steps):
            self._session.feed([(0, [token])])
            token = int(self._session.logits(0).argmax())
        return time.perf_counter() - begin


def load_module() -> harness.Opener:
    import mindir_llm.runtime  # noqa: F401

    return Engine


if __name__ == "__main__":
    harness.run(load_module)
