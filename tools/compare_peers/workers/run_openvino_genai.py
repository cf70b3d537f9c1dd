"""Worker: openvino-genai's LLMPipeline, greedy search of its own, timed by its own clock."""

from __future__ import annotations

from typing import Any

import harness


class Engine:
    """A pipeline on the CPU with the library's defaults."""

    def __init__(self, model: str, threads: int, max_seq_len: int) -> None:
        import openvino_genai

        self._package: Any = openvino_genai
        self._pipeline = openvino_genai.LLMPipeline(model, "CPU", INFERENCE_NUM_THREADS=threads)

    def prefill(self, ids: list[int]) -> float:
        return self._times(ids, 1)[0]

    def decode(self, ids: list[int], steps: int) -> float:
        return sum(self._times(ids, steps + 1)[1:])

    def _times(self, ids: list[int], tokens: int) -> list[float]:
        """Seconds to the first token, then from each to the next."""
        import numpy as np
        import openvino

        config = self._package.GenerationConfig()
        config.max_new_tokens = tokens
        config.ignore_eos = True
        config.do_sample = False
        prompt = openvino.Tensor(np.asarray([ids], np.int64))
        raw = self._pipeline.generate(prompt, config).perf_metrics.raw_metrics
        durations = list(raw.m_durations)
        times = [raw.m_times_to_first_token[0], *durations[-(tokens - 1) :]][:tokens]
        if len(times) != tokens:
            raise RuntimeError(f"{len(times)} times for {tokens} tokens")
        return [microseconds / 1e6 for microseconds in times]


def load_module() -> harness.Opener:
    import openvino_genai  # noqa: F401

    return Engine


if __name__ == "__main__":
    harness.run(load_module)
