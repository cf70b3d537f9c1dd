"""Worker: CTranslate2's Generator, greedy search of its own, timed by its callback."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import harness


class Engine:
    """A generator with one worker; it computes in the type it was converted to."""

    def __init__(self, model: str, threads: int, max_seq_len: int) -> None:
        import ctranslate2

        self._generator: Any = ctranslate2.Generator(
            model, device="cpu", compute_type="int8", inter_threads=1, intra_threads=threads
        )
        self._pieces: list[str] = json.loads((Path(model) / "vocabulary.json").read_text(encoding="utf-8"))

    def prefill(self, ids: list[int]) -> float:
        return self._times(ids, 1)[0]

    def decode(self, ids: list[int], steps: int) -> float:
        times = self._times(ids, steps + 1)
        return times[-1] - times[0]

    def _times(self, ids: list[int], tokens: int) -> list[float]:
        """Seconds from the call to each generated token."""
        times: list[float] = []

        def note(_: Any) -> bool:
            times.append(time.perf_counter() - begin)
            return False

        prompt = [self._pieces[number] for number in ids]
        begin = time.perf_counter()
        # Without the prompt in the result, it is read in one go; the other way it is read token by token.
        self._generator.generate_batch(
            [prompt],
            max_length=tokens,
            min_length=tokens,
            include_prompt_in_result=False,
            callback=note,
        )
        if len(times) != tokens:
            raise RuntimeError(f"{len(times)} times for {tokens} tokens")
        return times


def load_module() -> harness.Opener:
    import ctranslate2  # noqa: F401

    return Engine


if __name__ == "__main__":
    harness.run(load_module)
