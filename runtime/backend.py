"""What the token loop needs from whatever runs the graphs. The engine is one such (native_backend)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from .sampling import SamplingParams

Logits = np.ndarray[tuple[int, ...], np.dtype[np.float32]]


@dataclass(frozen=True)
class ModelInfo:
    """Facts of a loaded bundle; sizes in bytes, kv_cache_bytes for one session (all its slots)."""

    batch_size: int
    max_seq_len: int
    prefill_chunk: int
    vocab_size: int
    num_layers: int
    threads: int
    fused: bool
    weight_bytes: int
    kv_cache_bytes: int


class Matcher(Protocol):
    """Follows the text that is written, and knows which tokens may come next (grammar.Matcher)."""

    @property
    def must_end(self) -> bool: ...

    def close(self) -> None: ...


class Sampler(Protocol):
    """Chooses the tokens of one sequence and remembers them for the penalties and its random numbers."""

    def sample(
        self, logits: Logits, banned: Sequence[int], with_logprob: bool, matcher: Matcher | None = None
    ) -> tuple[int, float | None]:
        """A token that is not banned, and its log softmax in the raw logits if asked for. matcher: the token
        is one that it allows, and has accepted then."""

    def close(self) -> None: ...


class Session(Protocol):
    """KV caches and positions of batch_size slots. One thread at a time."""

    def feed(self, segments: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Append tokens to slots: (slot, token ids) pairs, each slot at most once. On error nothing moves."""

    def position(self, slot: int) -> int:
        """How many tokens the slot holds."""

    def rewind(self, slot: int, position: int) -> None:
        """Forget the slot's tokens from `position` on."""

    def save(self, slot: int) -> bytes:
        """What the slot holds, for `restore`; BundleError there where it is damaged or of another bundle."""

    def restore(self, slot: int, saved: bytes) -> None: ...

    def logits(self, slot: int) -> Logits:
        """float32 [vocab_size] after the slot's last token; a view, valid until the next call."""

    def close(self) -> None: ...


class Model(Protocol):
    """A loaded bundle."""

    @property
    def info(self) -> ModelInfo: ...

    @property
    def manifest(self) -> dict[str, Any]: ...

    def new_session(self) -> Session: ...

    def new_sampler(self, params: SamplingParams, seed: int, prompt: Sequence[int]) -> Sampler: ...

    def top_logprobs(self, logits: Logits, count: int) -> list[tuple[int, float]]:
        """The `count` most probable ids with log softmax, most probable first; ties: lowest id first."""

    def close(self) -> None: ...
