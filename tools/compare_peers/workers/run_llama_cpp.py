"""Worker: llama.cpp through llama-cpp-python, with a greedy choice in numpy."""

from __future__ import annotations

import sys
import time
from typing import Any

import harness


class Engine:
    """One context; with flash attention where the command line says --flash-attn."""

    def __init__(self, model: str, threads: int, max_seq_len: int) -> None:
        import llama_cpp

        self._llama: Any = llama_cpp.Llama(
            model,
            n_ctx=max_seq_len,
            n_batch=512,
            n_ubatch=512,
            n_threads=threads,
            n_threads_batch=threads,
            flash_attn="--flash-attn" in sys.argv,
            verbose=False,
        )

    def prefill(self, ids: list[int]) -> float:
        self._llama.reset()
        begin = time.perf_counter()
        self._llama.eval(ids)
        self._choose()
        return time.perf_counter() - begin

    def decode(self, ids: list[int], steps: int) -> float:
        self.prefill(ids)
        token = self._choose()
        begin = time.perf_counter()
        for _ in range(steps):
            self._llama.eval([token])
            token = self._choose()
        return time.perf_counter() - begin

    def _choose(self) -> int:
        import numpy as np

        logits = self._llama._ctx.get_logits_ith(-1)
        return int(np.ctypeslib.as_array(logits, shape=(self._llama.n_vocab(),)).argmax())


def load_module() -> harness.Opener:
    import llama_cpp  # noqa: F401

    return Engine


if __name__ == "__main__":
    harness.run(load_module)
