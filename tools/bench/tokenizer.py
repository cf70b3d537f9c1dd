"""How fast a tokenizer takes a text apart, and puts it together again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mindir_llm.runtime import EngineTokenizer
from mindir_llm.tokenizer import TokenizerError
from mindir_llm.tools.bench.errors import BenchError
from mindir_llm.tools.bench.measure import Sample

__all__ = ["TokenizerSpeed", "measure_tokenizer"]


@dataclass(frozen=True)
class TokenizerSpeed:
    """Bytes of UTF-8 per second. stream: decoding token by token, as it comes from a model."""

    nbytes: int
    tokens: int
    open_seconds: float
    encode: Sample
    decode: Sample
    stream: Sample

    def text(self) -> str:
        lines = [
            f"{self.nbytes / 1e6:.2f} MB, {self.tokens:,} tokens, {self.nbytes / self.tokens:.2f} bytes each",
            f"open    {self.open_seconds * 1e3:.1f} ms",
        ]
        for name, one in (("encode", self.encode), ("decode", self.decode), ("stream", self.stream)):
            spread = f"({one.low / 1e6:.1f} – {one.high / 1e6:.1f})"
            lines.append(f"{name:7} {one.median / 1e6:.1f} MB/s {spread}")
        return "\n".join([*lines, f"one thread, medians of {self.encode.count} repetitions"])


def measure_tokenizer(folder: str | Path, text: str | Path, repeat: int) -> TokenizerSpeed:
    """folder: a bundle, or a checkpoint's tokenizer files. BenchError: there is no tokenizer that the engine
    knows, or nothing to measure; OSError: the text cannot be read."""
    content = Path(text).read_bytes()
    started = time.perf_counter()
    try:
        tokenizer = EngineTokenizer(folder)
    except TokenizerError as error:
        raise BenchError(str(error)) from None
    opened = time.perf_counter() - started
    ids = tokenizer.encode_bytes(content, add_special_tokens=False, parse_special=False)
    if not ids:
        raise BenchError(f"{text}: has no tokens")

    def stream() -> None:
        decoder = tokenizer.stream_decoder()
        for index in ids:
            decoder.push(index)
        decoder.flush()

    def rates(work: Callable[[], object]) -> Sample:
        found = []
        for _ in range(repeat):
            start = time.perf_counter()
            work()
            found.append(len(content) / (time.perf_counter() - start))
        return Sample.of(found)

    return TokenizerSpeed(
        len(content),
        len(ids),
        opened,
        rates(lambda: tokenizer.encode_bytes(content, add_special_tokens=False, parse_special=False)),
        rates(lambda: tokenizer.decode(ids)),
        rates(stream),
    )
