"""Worker: onnxruntime-genai, greedy search of its own."""

from __future__ import annotations

import json
import time
from typing import Any

import harness


class Engine:
    """A model; every call makes a generator, whose set-up is not timed."""

    def __init__(self, model: str, threads: int, max_seq_len: int) -> None:
        import onnxruntime_genai

        self._package: Any = onnxruntime_genai
        config = onnxruntime_genai.Config(model)
        session = {"session_options": {"intra_op_num_threads": threads}}
        config.overlay(json.dumps({"model": {"decoder": session}}))
        self._model = onnxruntime_genai.Model(config)
        self._max_seq_len = max_seq_len

    def prefill(self, ids: list[int]) -> float:
        generator = self._generator()
        begin = time.perf_counter()
        self._append(generator, ids)
        return time.perf_counter() - begin

    def decode(self, ids: list[int], steps: int) -> float:
        generator = self._generator()
        self._append(generator, ids)
        begin = time.perf_counter()
        for _ in range(steps):
            generator.generate_next_token()
        seconds = time.perf_counter() - begin
        if generator.token_count() != len(ids) + 1 + steps:
            raise RuntimeError(f"stopped at {generator.token_count()} tokens")
        return seconds

    def _generator(self) -> Any:
        parameters = self._package.GeneratorParams(self._model)
        # min_length: an end token must not end it.
        parameters.set_search_options(
            do_sample=False, max_length=self._max_seq_len, min_length=self._max_seq_len
        )
        return self._package.Generator(self._model, parameters)

    def _append(self, generator: Any, ids: list[int]) -> None:
        generator.append_tokens(ids)
        generator.generate_next_token()  # chooses from the prompt's logits; the next call computes


def load_module() -> harness.Opener:
    import onnxruntime_genai  # noqa: F401

    return Engine


if __name__ == "__main__":
    harness.run(load_module)
