"""What a generation returns; the names are vLLM's."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Logprob:
    """Natural log of a token's probability under the raw logits (no penalty, no temperature)."""

    logprob: float
    rank: int  # 1: the most probable token
    decoded_token: str | None  # None where the bundle has no tokenizer


@dataclass(frozen=True)
class CompletionOutput:
    """One generated text.

    token_ids holds every generated id, a final stop token included; text leaves out special tokens, the stop
    string and what follows it. stop_reason: the stop string, or the id out of stop_token_ids; None for the
    model's own end token and for finish_reason "length". logprobs: one dict per token with the N most
    probable ids and the chosen one.
    """

    index: int
    text: str
    token_ids: list[int]
    finish_reason: FinishReason
    stop_reason: str | int | None
    logprobs: list[dict[int, Logprob]] | None
    cumulative_logprob: float | None


@dataclass(frozen=True)
class Metrics:
    """Wall-clock time in seconds. The prompt's part ends with the first token's logits; decode_tokens are
    those that came after it. cached_tokens of the prompt were still in the KV cache from an earlier one and
    cost no time. In a batch the times include the neighbours' work."""

    prompt_tokens: int
    prompt_seconds: float
    decode_tokens: int
    decode_seconds: float
    cached_tokens: int = 0

    @property
    def prompt_tokens_per_second(self) -> float:
        computed = self.prompt_tokens - self.cached_tokens
        return computed / self.prompt_seconds if self.prompt_seconds else 0.0

    def line(self) -> str:
        """Both speeds in words."""
        cached = f" and {self.cached_tokens} from the cache" if self.cached_tokens else ""
        return (
            f"prompt {self.prompt_tokens - self.cached_tokens} tokens{cached}, "
            f"{self.prompt_tokens_per_second:.1f} tokens/s; "
            f"decode {self.decode_tokens} tokens, {self.decode_tokens_per_second:.1f} tokens/s"
        )

    @property
    def decode_tokens_per_second(self) -> float:
        return self.decode_tokens / self.decode_seconds if self.decode_seconds else 0.0


@dataclass(frozen=True)
class RequestOutput:
    """A prompt and the n texts that were generated for it. prompt is None where token ids were given."""

    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    metrics: Metrics
    # One dict per token of the prompt, as in CompletionOutput.logprobs; None for the first, which follows
    # nothing.
    prompt_logprobs: list[dict[int, Logprob] | None] | None = field(default=None)
    finished: bool = field(default=True)
